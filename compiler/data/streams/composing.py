"""Composes streams of trimmed clips: events that come in over time, and their own background between them."""

from __future__ import annotations

import csv
import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Self

import av
import numpy as np
from numpy.typing import NDArray

from compiler.data.clips import Clip, ClipSet
from compiler.data.publishing import published
from compiler.data.streams.clip_media import ClipMedia, has_sound, read_clip
from compiler.data.streams.sensor_noise import noise_fields
from compiler.errors import DataError
from runtimes.errors import ArgumentError
from sdk.errors import SourceError

FORMAT = 2
LISTING = "streams.csv"
_KEY_FRAMES_S = 2.0
_SOUND_RATE_HZ = 16000
_MOST_UNREADABLE = 0.10

_LIMITS = {
    "idle": (0, 0.99),
    "streams": (1, 10_000),
    "clips": (1, 1000),
    "onset_s": (0, 60),
    "crf": (0, 51),
    "seed": (0, 2**31),
}

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
        for name, value in asdict(self).items():
            low, high = _LIMITS[name]
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
    clips: ClipSet,
    composition: Composition,
    root: Path,
    progress: Progress = lambda done, total: None,
    left_out: Callable[[Path, str], None] = lambda path, reason: None,
) -> Path:
    """The listing of streams composed of all ``clips``, below ``root``; made only where it is not there yet.

    Every stream draws its clips from a shuffled order of all, so that each comes as often as any other.
    ``left_out`` is told of clips that cannot be read, once each, and why.

    Raises: DataError if more than a tenth of the clips cannot be read, or nothing can be written.
    """
    key = hashlib.sha256(f"{FORMAT} {clips.fingerprint} {sorted(asdict(composition).items())}".encode())
    folder = root / f"composed-{key.hexdigest()[:16]}"
    if not (folder / LISTING).is_file():
        shutil.rmtree(folder, ignore_errors=True)  # what is there is not whole
        with published(folder, LISTING) as draft:
            _write_all(_Clips(clips, composition.seed, left_out), composition, draft, progress)
    return folder / LISTING


class _Clips:
    """Clips in a shuffled order, again and again, each decoded when its turn comes.

    ``heard``: whether any of them has sound.
    """

    def __init__(self, clips: ClipSet, seed: int, left_out: Callable[[Path, str], None]) -> None:
        self._origin, self._clips, self._left_out = clips.origin, clips.clips, left_out
        self._random = np.random.default_rng(seed)
        self._order: list[int] = []
        self.heard = any(has_sound(clip.path) for clip in clips.clips)
        self._unreadable: set[int] = set()

    def next(self) -> tuple[Clip, ClipMedia]:
        """Raises: DataError if more than a tenth cannot be read."""
        while True:
            if not self._order:
                self._order = self._random.permutation(len(self._clips)).tolist()
            place = self._order.pop()
            if place in self._unreadable:
                continue
            try:
                return self._clips[place], read_clip(self._clips[place].path, _SOUND_RATE_HZ)
            except SourceError as error:
                self._unreadable.add(place)
                self._left_out(self._clips[place].path, error.reason)
                if len(self._unreadable) > _MOST_UNREADABLE * len(self._clips):
                    reason = f"{len(self._unreadable)} of {len(self._clips)} clips cannot be read"
                    fix = "fix or remove them; up to a tenth is left out"
                    raise DataError(self._origin, reason, fix) from None


def _write_all(clips: _Clips, composition: Composition, folder: Path, progress: Progress) -> None:
    random = np.random.default_rng((composition.seed, 1))
    rows: list[tuple[str, str, str, str]] = []
    for number in range(composition.streams):
        name = f"{number:04d}.mp4"
        events = _write(folder / name, clips, composition, random)
        rows += [(name, f"{start:.3f}", f"{end:.3f}", label) for start, end, label in events]
        progress(number + 1, composition.streams)
    with (folder / LISTING).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "start_s", "end_s", "label"), *rows])


def _write(
    path: Path, clips: _Clips, composition: Composition, random: np.random.Generator
) -> list[tuple[float, float, str]]:
    """Encode one stream, of its first clip's size and rate; its events (start_s, end_s, label)."""
    clip, media = clips.next()
    events: list[tuple[float, float, str]] = []
    with _Encoder(path, media, composition.crf, heard=clips.heard) as encoder:
        behind = encoder.fitted(media.background)
        for number, weight in enumerate(_weights(composition.clips, random)):
            if number:
                clip, media = clips.next()
            pause = round(
                encoder.rate * media.duration_s * weight * composition.idle / (1 - composition.idle)
            )
            encoder.write(
                _with_noise(behind, media.noise, pause, random),
                media.quiet_sound(pause / encoder.rate, _SOUND_RATE_HZ, random),
            )
            begun_s = encoder.written_s
            pictures = [encoder.fitted(picture) for picture in media.at_rate(encoder.rate)]
            onset = composition.onset_s * encoder.rate
            encoder.write(
                _coming_in(behind, pictures, onset), media.heard(len(pictures) / encoder.rate, _SOUND_RATE_HZ)
            )
            events.append((begun_s, encoder.written_s, clip.label))
            behind = pictures[-1]
    return events


def _weights(count: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Of pauses, around 1: from half to one and a half."""
    weights = random.uniform(0.5, 1.5, count)
    return np.asarray(weights / weights.mean())


class _Encoder:
    """H.264 and AAC in mp4, one thread: the same pixels give the same bytes."""

    def __init__(self, path: Path, first: ClipMedia, crf: int, *, heard: bool) -> None:
        height, width = first.frames[0].shape[:2]
        self.rate = max(1, round(first.rate_hz))
        self._size = max(2, height - height % 2), max(2, width - width % 2)
        self._container = av.open(str(path), "w", format="mp4")
        self._video = self._container.add_stream("libx264", rate=self.rate)
        self._video.height, self._video.width = self._size
        self._video.pix_fmt = "yuv420p"
        self._video.options = {"crf": str(crf), "preset": "veryfast", "threads": "1"}
        self._video.codec_context.gop_size = max(1, round(_KEY_FRAMES_S * self.rate))
        self._audio = None
        if heard:
            self._audio = self._container.add_stream("aac", rate=_SOUND_RATE_HZ, layout="mono")
        self._pictures = self._samples = 0

    @property
    def written_s(self) -> float:
        """Seconds of pictures so far."""
        return self._pictures / self.rate

    def fitted(self, picture: Pixels) -> Pixels:
        """A picture at the stream's size."""
        if picture.shape[:2] == self._size:
            return picture
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        return frame.reformat(self._size[1], self._size[0]).to_ndarray().astype(np.uint8, copy=False)

    def write(self, pictures: Iterable[Pixels], sound: NDArray[np.float32]) -> None:
        """Add pictures and the sound of their time."""
        for pixels in pictures:
            self._container.mux(self._video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            self._pictures += 1
        if self._audio is not None and len(sound):
            samples = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound[None]), "fltp", "mono")
            samples.sample_rate, samples.time_base = _SOUND_RATE_HZ, Fraction(1, _SOUND_RATE_HZ)
            samples.pts = self._samples
            self._samples += len(sound)
            self._container.mux(self._audio.encode(samples))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        if kind is None:
            self._container.mux(self._video.encode(None))
            if self._audio is not None:
                self._container.mux(self._audio.encode(None))
        self._container.close()


def _coming_in(behind: Pixels, pictures: Sequence[Pixels], onset: float) -> Iterator[Pixels]:
    """The pictures of an event, mixed with what was there before for its first ``onset`` pictures."""
    for number, picture in enumerate(pictures):
        share = min(1.0, (number + 1) / (onset + 1))
        yield picture if share == 1 else np.asarray((1 - share) * behind + share * picture).astype(np.uint8)


def _with_noise(picture: Pixels, sigma: float, count: int, random: np.random.Generator) -> Iterator[Pixels]:
    """The picture ``count`` times, each with other noise of a sensor."""
    noise = noise_fields(picture.shape[:2], sigma, random)
    for _ in range(count):
        shift = random.integers(0, picture.shape[1])
        field = np.roll(noise[random.integers(len(noise))], shift, axis=1)[:, :, None]
        yield np.clip(picture + field, 0, 255).astype(np.uint8)
