"""Decodes a data set once, through the SDK's own code, and keeps the pixels for training."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from compiler.data.cache_index import CachedClip, CacheIndex, cache_key
from compiler.data.clips import ClipSet, Rejected, Split, require_usable
from compiler.data.publishing import published
from compiler.data.synthetic.rendering import render_clips, step_shape
from runtimes.spec import Steps, View

Progress = Callable[[int, int], None]
"""Called with (clips done, clips in all)."""

_INDEX = "index.json"


class ClipCache:
    """Rendered steps of every clip, memory-mapped. Clips are numbered as in ``clips``.

    ``rejected``: (path, reason) of the clips left out. ``cut_clips``: how many had more than ``clip_steps``
    steps and lost the rest.
    """

    def __init__(self, folder: Path, index: CacheIndex) -> None:
        self.folder = folder
        self.labels = index.labels
        self.rate_hz = index.rate_hz
        self.clip_steps = index.clip_steps
        self.segment_s = index.segment_s
        self.fingerprint = index.fingerprint
        self.cut_clips = index.cut_clips
        self.clips = tuple(entry.clip() for entry in index.clips)
        self.rejected = [Rejected(Path(path), reason) for path, reason in index.rejected]
        self.views = index.views
        self._entries = index.clips
        self._pixels = {view.name: _mapped(folder, view, index.total_steps) for view in index.views}

    @classmethod
    def build(
        cls,
        clips: ClipSet,
        views: Sequence[View],
        rate_hz: float,
        clip_steps: int,
        root: str | os.PathLike[str],
        progress: Progress = lambda done, total: None,
        *,
        segment_s: float = 0.0,
        require: Callable[[ClipSet, Collection[str]], None] = require_usable,
    ) -> Self:
        """The cache of these clips and views below ``root``: the one that is there, or a new one.

        A step brings the ``segment_s`` seconds that end at it, of pictures and sound; 0: its own picture.
        Any change of a file's name, size or date, of views, rate, steps or segment, or of the decoding
        libraries makes a new one. It appears whole or not at all. ``require``: checks what could be decoded.

        Raises: DataError if too many clips cannot be decoded, or the disk is full.
        """
        steps = Steps(rate_hz=rate_hz, clip_steps=clip_steps, segment_s=segment_s)
        folder = Path(root) / cache_key(clips, views, steps)
        if not (folder / _INDEX).is_file():
            with published(folder, _INDEX) as draft:
                _write(draft, clips, views, steps, progress, require)
        return cls(folder, CacheIndex.model_validate_json((folder / _INDEX).read_text("utf-8")))

    def frames(self, clip: int, view: str) -> NDArray[np.uint8]:
        """The steps of one clip, read-only, not copied; zeros where the view's sound is absent.

        uint8 (T, size, size, 3) of a view of one picture, else (T, *view.shape). Raises: KeyError.
        """
        entry = self._entries[clip]
        return self._pixels[view][entry.start : entry.start + entry.steps]

    def absent(self, clip: int, view: str) -> NDArray[np.bool_]:
        """Per step of one clip, whether it lacks what ``view`` is made from: bool (T,).

        ``view`` may name a modality instead: a step lacks it if any view of it is absent. Raises: KeyError.
        """
        named = [v.name for v in self.views if view in (v.name, v.modality)]
        if not named:
            raise KeyError(view)
        absent = np.zeros(self.steps(clip), np.bool_)
        for name in named:
            absent[list(self._entries[clip].absent.get(name, ()))] = True
        return absent

    def steps(self, clip: int) -> int:
        """How many steps a clip has: 1 to ``clip_steps``."""
        return self._entries[clip].steps

    def times(self, clip: int) -> tuple[float, ...]:
        """Source time of each step, in seconds."""
        return self._entries[clip].times

    def target(self, clip: int) -> int:
        """The place of the clip's label in ``labels``."""
        return self.labels.index(self.clips[clip].label)

    def split(self, name: Split) -> list[int]:
        """The numbers of the clips of one split."""
        return [number for number, clip in enumerate(self.clips) if clip.split == name]


def _mapped(folder: Path, view: View, steps: int) -> NDArray[np.uint8]:
    shape = (steps, *step_shape(view))
    return np.memmap(_pixel_file(folder, view), dtype=np.uint8, mode="r", shape=shape)


def _pixel_file(folder: Path, view: View) -> Path:
    return folder / f"{view.name}.pixels"


def _write(
    draft: Path,
    clips: ClipSet,
    views: Sequence[View],
    steps: Steps,
    progress: Progress,
    require: Callable[[ClipSet, Collection[str]], None],
) -> None:
    entries: list[CachedClip] = []
    rejected = list(clips.rejected)
    names = [view.name for view in views]
    cut = start = 0
    with ExitStack() as files:
        writers = [files.enter_context(_pixel_file(draft, view).open("wb")) for view in views]
        rendered = render_clips(clips.clips, views, steps)
        for done, (clip, result) in enumerate(rendered, start=1):
            if isinstance(result, Rejected):
                rejected.append(result)
            else:
                for writer, pixels in zip(writers, result.pixels, strict=True):
                    writer.write(pixels.data)
                entries.append(
                    CachedClip.of(clip, start, result.times, dict(zip(names, result.absent, strict=True)))
                )
                start += len(result.times)
                cut += result.was_cut
            progress(done, len(clips.clips))
    usable = replace(clips, clips=tuple(entry.clip() for entry in entries), rejected=tuple(rejected))
    require(usable, clips.labels)
    index = CacheIndex(
        labels=clips.labels,
        views=tuple(views),
        rate_hz=steps.rate_hz,
        clip_steps=steps.clip_steps,
        segment_s=steps.segment_s,
        fingerprint=usable.fingerprint,
        cut_clips=cut,
        clips=tuple(entries),
        rejected=tuple((str(path), reason) for path, reason in rejected),
    )
    (draft / _INDEX).write_text(index.model_dump_json(indent=1), "utf-8")
