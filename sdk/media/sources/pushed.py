"""Pictures and sound that the app already has: arrays or PyAV frames, each with its time."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from fractions import Fraction
from numbers import Integral
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from sdk.errors import SourceError, SourceErrorCode, SourceOptionError
from sdk.media.absence import Absence
from sdk.media.audio.sound import MonoResampler
from sdk.media.frames import Event, NoSound, Picture, SoundChunk

Pushed = NDArray[Any] | av.VideoFrame
"""A picture, uint8 (H, W, 3) RGB or an ``av.VideoFrame``; or sound, mono float32 (n,)."""
TimedPushed = Iterable[tuple[Pushed, float]]
SOUND_RATE_HZ = 24_000


class PushedMedia:
    """Makes events of what an app pushes; ``sound_rate_hz`` is what its sound has.

    ``wanted_rate_hz``: what the consumer wants; None: sound is passed over. Sound that differs is resampled.
    """

    def __init__(self, wanted_rate_hz: int | None = None, sound_rate_hz: int = SOUND_RATE_HZ) -> None:
        if not _is_rate(sound_rate_hz):
            reason = "is not a sampling rate"
            raise SourceOptionError(f"sound_rate_hz {sound_rate_hz!r}", reason, "use samples per second")
        self._wanted_rate_hz = wanted_rate_hz
        self._resampler = MonoResampler(wanted_rate_hz or sound_rate_hz)
        self._sound_rate_hz = sound_rate_hz
        self._index = 0
        self._begun = False

    def events(self, pushed: Pushed, time_s: float) -> Iterator[Event]:
        """What one pair brings; sound is what has one dimension.

        Raises: SourceError BAD_FRAME for what is neither, and for a time that is not a number.
        """
        index, self._index = self._index, self._index + 1
        if not isinstance(time_s, int | float | np.number) or not math.isfinite(time_s):
            raise _bad_frame(index, f"its time is {time_s}", "give seconds")
        if not self._begun and self._wanted_rate_hz is not None:
            yield NoSound(Absence("no sound was pushed"), at_once=True)
        self._begun = True
        media = pushed if isinstance(pushed, av.VideoFrame) else _array(pushed, index)
        if isinstance(media, av.VideoFrame) or media.ndim != 1:
            yield Picture(_video_frame(media, index), float(time_s), arrived_s=time.monotonic())
            return
        samples = _samples(media, index)
        if self._wanted_rate_hz is not None and samples.size:
            yield from self._sound(samples, float(time_s))

    def _sound(self, samples: NDArray[np.float32], time_s: float) -> Iterator[SoundChunk]:
        if self._sound_rate_hz == self._wanted_rate_hz:
            yield SoundChunk(samples.copy(), time_s)
            return
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = self._sound_rate_hz
        frame.time_base = Fraction(1, self._sound_rate_hz)
        frame.pts = round(time_s * self._sound_rate_hz)
        yield from self._resampler.chunks(frame)


def pushed_events(pairs: TimedPushed, media: PushedMedia) -> Iterator[Event]:
    """The events of (picture or sound, time in seconds) pairs.

    Raises: SourceError BAD_FRAME, if they end without one picture too: there would be no result and no word.
    """
    number, has_picture = -1, False
    for number, pair in enumerate(pairs):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise _bad_frame(number, f"is {type(pair).__name__}", "give (image, time in seconds) pairs")
        for event in media.events(*pair):
            has_picture = has_picture or isinstance(event, Picture)
            yield event
    if not has_picture:
        reason = "gave no frame" if number < 0 else "gave sound and not one frame"
        fix = "give one (image, time in seconds) pair or more"
        raise SourceError("the iterable", reason, fix, SourceErrorCode.BAD_FRAME)


def _array(pushed: object, index: int) -> NDArray[Any]:
    try:
        return np.asarray(pushed)
    except (TypeError, ValueError):  # lists within it differ in length
        reason = f"is {type(pushed).__name__} that is not an array"
        raise _bad_frame(index, reason, "give uint8 (H, W, 3) RGB") from None


def _is_rate(value: object) -> bool:
    return isinstance(value, Integral) and 0 < int(value) < 10**7


def _samples(pushed: NDArray[Any], index: int) -> NDArray[np.float32]:
    samples = np.ascontiguousarray(pushed)
    if samples.dtype != np.float32 or not np.isfinite(samples).all():
        raise _bad_frame(index, f"is {samples.dtype} sound", "give finite float32 (n,) in [-1, 1]")
    return samples


def _video_frame(pixels: Pushed, index: int) -> av.VideoFrame:
    if isinstance(pixels, av.VideoFrame):
        return pixels
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise _bad_frame(index, f"is {pixels.dtype} {pixels.shape}", "give uint8 (H, W, 3) RGB")
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")


def _bad_frame(index: int, reason: str, fix: str) -> SourceError:
    return SourceError(f"frame {index}", reason, fix, SourceErrorCode.BAD_FRAME)
