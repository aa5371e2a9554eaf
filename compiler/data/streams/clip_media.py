"""A trimmed clip's pictures and sound, as a stream is composed of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from compiler.data.streams.sensor_noise import noise_of
from sdk.errors import SourceError, SourceErrorCode
from sdk.media.frames import Picture, SoundChunk, upright_rotation
from sdk.media.sources.addresses import parse_address
from sdk.media.sources.decoder import Decoder, DecoderOptions
from sdk.media.stream_time import StreamTime

_STILL_HZ = 4.0
"""Of a clip of one picture, which is shown for a second."""
_STILL_S = 1.0
_WINDOW_S = 0.1
_LARGEST, _LONGEST_S = 360, 60.0
"""Pixels on the short side, and seconds, of what is kept of a clip: it is held whole."""

Pixels = NDArray[np.uint8]
Samples = NDArray[np.float32]


@dataclass(frozen=True)
class ClipMedia:
    """``frames``: uint8 (H, W, 3) RGB each; ``sound``: mono float32 (n,) from the beginning on, or None."""

    frames: tuple[Pixels, ...]
    rate_hz: float
    sound: Samples | None

    @property
    def duration_s(self) -> float:
        """Seconds from the first picture to the end of the last."""
        return len(self.frames) / self.rate_hz

    @property
    def background(self) -> Pixels:
        """The median picture: what does not move."""
        picked = self.frames[:: max(1, len(self.frames) // 9)]
        return np.asarray(np.median(np.stack(picked), axis=0)).astype(np.uint8)

    @property
    def noise(self) -> float:
        """Of its sensor, in levels."""
        return noise_of(self.frames[len(self.frames) // 2])

    def at_rate(self, rate_hz: float) -> list[Pixels]:
        """As many pictures as it has at another rate; at least one."""
        count = max(1, round(self.duration_s * rate_hz))
        places = np.minimum((np.arange(count) * self.rate_hz / rate_hz).astype(int), len(self.frames) - 1)
        return [self.frames[place] for place in places]

    def heard(self, seconds: float, rate_hz: int) -> Samples:
        """Its sound, cut or filled up with silence to so many seconds."""
        count = round(seconds * rate_hz)
        sound = np.zeros(0, np.float32) if self.sound is None else self.sound[:count]
        return np.pad(sound, (0, count - len(sound)))

    def quiet_sound(self, seconds: float, rate_hz: int, random: np.random.Generator) -> Samples:
        """Noise as loud as its quietest tenth of a second."""
        count, window = round(seconds * rate_hz), round(_WINDOW_S * rate_hz)
        level = 0.0
        if self.sound is not None and len(self.sound) >= window:
            whole = self.sound[: len(self.sound) // window * window].reshape(-1, window)
            level = float(whole.std(axis=1).min())
        return random.normal(0, level, count).astype(np.float32)


def has_sound(path: Path) -> bool:
    """Whether a clip has a track of sound; not so of what cannot be opened."""
    try:
        with av.open(str(path)) as container:
            return bool(container.streams.audio)
    except (OSError, av.error.FFmpegError):
        return False


def read_clip(path: Path, sound_rate_hz: int) -> ClipMedia:
    """Decode a clip whole. Raises: SourceError if it cannot be read, or has no picture."""
    frames: list[Pixels] = []
    times: list[float] = []
    chunks: list[Samples] = []
    options = DecoderOptions(threads=1, sound_rate_hz=sound_rate_hz)
    with Decoder(parse_address(path), options, lambda: None) as decoder:
        for event in StreamTime().events(decoder, lambda: decoder.start_s):
            if isinstance(event, Picture):
                frames.append(_upright(event.image, frames[0].shape[:2] if frames else None))
                times.append(event.time_s)
                if event.time_s - times[0] > _LONGEST_S:
                    break
            elif isinstance(event, SoundChunk):
                chunks.append(event.samples)
    if not frames:
        raise SourceError(path, "has no picture", "take it off the list", SourceErrorCode.NO_VIDEO_STREAM)
    intervals = np.diff(times)
    usual = float(np.median(intervals[intervals > 0])) if (intervals > 0).any() else 0.0
    sound = np.concatenate(chunks) if chunks else None
    if not usual:
        return ClipMedia(tuple(frames[:1]) * round(_STILL_S * _STILL_HZ), _STILL_HZ, sound)
    return ClipMedia(tuple(frames), 1 / usual, sound)


def _upright(image: av.VideoFrame, size: tuple[int, ...] | None) -> Pixels:
    """RGB at ``size`` (height, width); None: its own, but for ``_LARGEST`` on the short side at most."""
    turns = upright_rotation(image) // 90
    if size is None:
        scale = min(1.0, _LARGEST / min(image.width, image.height))
        width, height = (max(1, round(side * scale)) for side in (image.width, image.height))
    else:
        height, width = size if turns % 2 == 0 else size[::-1]
    pixels = image.reformat(width, height, "rgb24").to_ndarray().astype(np.uint8, copy=False)
    return np.rot90(pixels, -turns)
