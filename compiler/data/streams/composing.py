"""Composes streams of trimmed clips: events that come in over time, and their own background between them."""

from __future__ import annotations

import csv
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Self

import av
import numpy as np
from numpy.typing import NDArray

from compiler.data.clips import Clip, ClipSet
from compiler.data.streams.clip_media import ClipMedia, read_clip
from compiler.data.streams.sensor_noise import noise_fields
from runtimes.errors import ArgumentError

FORMAT = 1
LISTING = "streams.csv"
_KEY_FRAMES_S = 2.0
_SOUND_RATE_HZ = 16000

Pixels = NDArray[np.uint8]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Composition:
    """What composed streams are like.

    ``idle``: the share of time in which nothing happens; ``streams`` of ``clips`` events each;
    ``onset_s``: seconds over which an event's picture comes in, 0: with a cut; ``crf``: of H.264, the higher
    the coarser; ``seed`` of order, pauses and noise.

    Raises: ArgumentError for values that make no stream.
    """

    idle: float = 0.8
    streams: int = 30
    clips: int = 10
    onset_s: float = 0.0
    crf: int = 23
    seed: int = 0

    def __post_init__(self) -> None:
        limits = {"idle": (0, 0.99), "streams": (1, 10_000), "clips": (1, 1000), "onset_s": (0, 60)}
        for name, (low, high) in (limits | {"crf": (0, 51), "seed": (0, 2**31)}).items():
            value = getattr(self, name)
            if not low <= value <= high:
                reason = f"is not between {low} and {high}"
                raise ArgumentError(f"--compose-streams {name}={value}", reason, "choose another")

    @classmethod
    def parse(cls, text: str) -> Self:
        """From ``idle=0.8,streams=30``. Raises: ArgumentError."""
        kinds = {field.name: (float if field.type == "float" else int) for field in fields(cls)}
        values: dict[str, float] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, _, value = part.partition("=")
            fix = "write it as idle=0.8,streams=30,clips=10,onset_s=0,crf=23,seed=0, or a part of that"
            if name not in kinds or name in values:
                raise ArgumentError(f"--compose-streams {part}", "is not known, or said twice", fix)
            try:
                values[name] = kinds[name](value)
            except ValueError:
                raise ArgumentError(f"--compose-streams {part}", "is not a number", fix) from None
        return cls(**values)  # type: ignore[arg-type]


def compose_streams(
    clips: ClipSet, composition: Composition, root: Path, progress: Progress = lambda done, total: None
) -> Path:
    """The listing of streams composed of all ``clips``, below ``root``; made only where it is not there yet.

    Every stream draws its clips from a shuffled order of all, so that each comes as often as any other.

    Raises: SourceError for a clip that cannot be read; OSError.
    """
    key = hashlib.sha256(f"{FORMAT} {clips.fingerprint} {sorted(asdict(composition).items())}".encode())
    folder = root / f"composed-{key.hexdigest()[:16]}"
    if (folder / LISTING).is_file():
        return folder / LISTING
    draft = folder.with_name(f"{folder.name}.draft-{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        _write_all(clips.clips, composition, draft, progress)
        try:
            draft.rename(folder)
        except OSError:  # another run was quicker
            if not (folder / LISTING).is_file():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder / LISTING


def _write_all(clips: Sequence[Clip], composition: Composition, folder: Path, progress: Progress) -> None:
    random = np.random.default_rng(composition.seed)
    order = _endless(clips, random)
    rows: list[tuple[str, str, str, str]] = []
    for number in range(composition.streams):
        name = f"{number:04d}.mp4"
        chosen = [next(order) for _ in range(composition.clips)]
        events = _write(folder / name, chosen, composition, random)
        rows += [(name, f"{start:.3f}", f"{end:.3f}", label) for start, end, label in events]
        progress(number + 1, composition.streams)
    with (folder / LISTING).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "start_s", "end_s", "label"), *rows])


def _endless(clips: Sequence[Clip], random: np.random.Generator) -> Iterator[Clip]:
    while True:
        for place in random.permutation(len(clips)):
            yield clips[place]


def _write(
    path: Path, clips: Sequence[Clip], composition: Composition, random: np.random.Generator
) -> list[tuple[float, float, str]]:
    """Encode one stream; its events (start_s, end_s, label)."""
    media = [read_clip(clip.path, _SOUND_RATE_HZ) for clip in clips]
    rate = round(float(np.median([one.rate_hz for one in media]))) or 1
    height, width = media[0].frames[0].shape[:2]
    pauses = _pauses(media, composition, random)
    events: list[tuple[float, float, str]] = []
    with av.open(str(path), "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=rate)
        video.width, video.height, video.pix_fmt = width - width % 2, height - height % 2, "yuv420p"
        video.options = {"crf": str(composition.crf), "preset": "veryfast", "threads": "1"}
        video.codec_context.gop_size = max(1, round(_KEY_FRAMES_S * rate))
        heard = any(one.sound is not None for one in media)
        audio = container.add_stream("aac", rate=_SOUND_RATE_HZ, layout="mono") if heard else None
        sounds: list[NDArray[np.float32]] = []
        shown, behind = 0, media[0].background
        for clip, one, pause_s in zip(clips, media, pauses, strict=True):
            idle = round(pause_s * rate)
            pictures = one.at_rate(rate)
            for pixels in _with_noise(_fitted(behind, height, width), one.noise, idle, random):
                container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            begun = (shown + idle) / rate
            for number, picture in enumerate(pictures):
                pixels = _fitted(picture, height, width)
                share = min(1.0, (number + 1) / (composition.onset_s * rate + 1))
                if share < 1:
                    pixels = _blended(_fitted(behind, height, width), pixels, share)
                container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            shown += idle + len(pictures)
            events.append((begun, shown / rate, clip.label))
            if heard:
                sounds.append(one.quiet_sound(idle / rate, _SOUND_RATE_HZ, random))
                sounds.append(one.heard(len(pictures) / rate, _SOUND_RATE_HZ))
            behind = one.frames[-1]
        container.mux(video.encode(None))
        if audio is not None:
            samples = av.AudioFrame.from_ndarray(np.concatenate(sounds)[None], format="fltp", layout="mono")
            samples.sample_rate, samples.time_base = _SOUND_RATE_HZ, Fraction(1, _SOUND_RATE_HZ)
            container.mux(audio.encode(samples))
            container.mux(audio.encode(None))
    return events


def _pauses(
    media: Sequence[ClipMedia], composition: Composition, random: np.random.Generator
) -> NDArray[np.float64]:
    """Seconds before each event: from half to one and a half times their mean."""
    idle_s = sum(one.duration_s for one in media) * composition.idle / (1 - composition.idle)
    weights = random.uniform(0.5, 1.5, len(media))
    return np.asarray(idle_s * weights / weights.sum())


def _with_noise(picture: Pixels, sigma: float, count: int, random: np.random.Generator) -> Iterator[Pixels]:
    """The picture ``count`` times, each with other noise of a sensor."""
    noise = noise_fields(picture.shape[:2], sigma, random)
    for _ in range(count):
        shift = random.integers(0, picture.shape[1])
        field = np.roll(noise[random.integers(len(noise))], shift, axis=1)[:, :, None]
        yield np.clip(picture + field, 0, 255).astype(np.uint8)


def _blended(one: Pixels, other: Pixels, share: float) -> Pixels:
    return np.asarray((1 - share) * one + share * other).astype(np.uint8)


def _fitted(picture: Pixels, height: int, width: int) -> Pixels:
    """A picture at the stream's size: that of its first clip."""
    if picture.shape[:2] == (height, width):
        return picture
    frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
    return frame.reformat(width, height).to_ndarray(format="rgb24").astype(np.uint8, copy=False)
