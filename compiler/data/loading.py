"""The clips of a compile: found, decoded once to the views of a model, and what is missing of them named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from compiler.console import Console
from compiler.data.cache import ClipCache
from compiler.data.clips import ClipSet, find_clips, find_evaluated_clips
from compiler.data.rate import choose_rate_hz
from compiler.data.synthetic import built_in
from compiler.errors import DataError
from models.contract import StepTiming
from runtimes.cache import cache_folder
from runtimes.errors import ArgumentError
from runtimes.spec import Manifest, View
from runtimes.words import counted

BUILT_IN = "built-in"
"""What a bundle's provenance calls the built-in clips."""


def find_training_clips(folder: Path | None, console: Console, *, seed: int, audible: bool) -> ClipSet:
    """The clips of a folder, or the built-in ones; those that only sound different if ``audible``.

    Raises: DataError.
    """
    if folder is not None:
        return find_clips(folder)
    root = built_in.make_clips(seed=seed)
    if audible:
        return find_clips(root)
    # A model of frames alone cannot tell classes that only sound different.
    console.note(f"built-in data, the visible classes: {', '.join(built_in.VISIBLE_CLASSES)}")
    return find_clips(root, classes=built_in.VISIBLE_CLASSES)


def find_judged_clips(data: Path | None, manifest: Manifest, split: str | None) -> ClipSet:
    """The clips to evaluate a bundle on: those at ``data``, or the built-in ones that it was trained for.

    Raises: DataError; ArgumentError for no ``data`` where the bundle was trained on other clips.
    """
    if data is not None:
        return find_evaluated_clips(data, manifest.labels, split)
    if manifest.provenance.get("dataset") != BUILT_IN:
        reason = "is missing, and the bundle was not trained on the built-in clips"
        raise ArgumentError("--data", reason, "name a folder or a csv of labeled clips, or of streams")
    root = built_in.make_clips(seed=int(str(manifest.provenance["seed"])))
    return find_evaluated_clips(root, manifest.labels, split, known_only=True)


def load_clips(
    clips: ClipSet, views: Sequence[View], timing: StepTiming, rate_hz: float | None, console: Console
) -> ClipCache:
    """The cache of the clips at some views; ``rate_hz`` goes before the method's own. Raises: DataError."""
    steps = timing.clip_steps
    rate_hz = rate_hz or timing.rate_hz or choose_rate_hz(clips, steps)
    with console.progress("decoding clips") as advance:
        folder = cache_folder("clips")
        cache = ClipCache.build(clips, views, rate_hz, steps, folder, advance, segment_s=timing.segment_s)
    train_clips, val_clips = len(cache.split("train")), len(cache.split("val"))
    console.note(
        f"{len(cache.labels)} classes, {train_clips} training and {val_clips} validation clips, "
        f"{rate_hz:g} steps a second, at most {steps} a clip"
    )
    for path, reason in cache.rejected:
        console.note(f"left out: {path}: {reason}")
    note_absent(cache, console)
    if cache.cut_clips:
        console.note(
            f"longer than {steps} steps, only the beginning is used: {counted(cache.cut_clips, 'clip')}"
        )
    return cache


def note_absent(cache: ClipCache, console: Console) -> None:
    """Report how many clips lack a modality. Raises: DataError if all of them do, at every step."""
    clips = range(len(cache.clips))
    for modality in sorted({view.modality for view in cache.views}):
        lacking = [float(cache.absent(clip, modality).mean()) for clip in clips]
        if all(share == 1 for share in lacking):
            fix = f"leave {modality} out of --modalities, or give clips that have it"
            raise DataError(f"modality {modality}", "not one of the clips has it", fix)
        if any(lacking):
            several = sum(share > 0 for share in lacking)
            console.note(f"{several} clips lack {modality}, {sum(s == 1 for s in lacking)} of them all along")
