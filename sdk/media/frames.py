"""The frame: what a source gives and a view is rendered from."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import av
import numpy as np
from numpy.typing import NDArray

from sdk.media.absence import Absence


@dataclass(frozen=True, slots=True)
class Picture:
    """One decoded picture, before it is known whether it is a step.

    ``time_s``: its stream time; ``source_time_s``: the source's own timestamp, if that is another.
    ``after_gap``: the source was interrupted, or its time jumped back, before it.
    """

    image: av.VideoFrame
    time_s: float
    decode_ms: float = 0.0
    arrived_s: float = field(default_factory=time.monotonic)
    source_time_s: float | None = None
    after_gap: bool = False


@dataclass(frozen=True, slots=True)
class SoundChunk:
    """Sound as it comes: mono float32 ``samples`` (n,) in [-1, 1], the first at ``time_s``."""

    samples: NDArray[np.float32]
    time_s: float
    decode_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class NoSound:
    """Why no sound comes until the next chunk. ``at_once``: not even what was heard just now counts."""

    absence: Absence
    at_once: bool = False


Event = Picture | SoundChunk | NoSound
"""What a decoder gives, one after another."""


@dataclass(frozen=True, slots=True)
class Sound:
    """The sound of one segment: mono float32 ``samples`` (n,) in [-1, 1] at ``rate_hz``.

    The last sample ends at the step's time. ``absent``: why there is none; there are no ``samples`` then.
    None: it is there.
    """

    samples: NDArray[np.float32]
    rate_hz: int
    absent: Absence | None = None


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame that is a step; its picture is still as the decoder left it (mostly YUV).

    ``time_s``: stream time, which starts near 0 and never runs backwards (of an app's own frames: the time
    that it gave). ``source_time_s``: the source's own timestamp (its pts, in seconds). ``rotation``: degrees
    clockwise that bring the picture upright (0, 90, 180, 270). ``decode_ms``: decoding, frames between the
    step before and this one included. ``arrived_s``: ``time.monotonic()`` when it was decoded. ``index``:
    frames decoded before it. ``restarted``: the stream was interrupted before this frame, so what came
    before says nothing about it. ``segment_s``: length of the segment that ends here, in seconds; 0: this
    picture is all there is. ``earlier``: pictures before this one that its segment needs, oldest first.
    ``sound``: its sound; None where no view is made of sound.
    """

    time_s: float
    image: av.VideoFrame
    rotation: int
    decode_ms: float
    arrived_s: float
    index: int
    restarted: bool = False
    segment_s: float = 0.0
    earlier: tuple[Picture, ...] = ()
    sound: Sound | None = None
    source_time_s: float | None = None

    @property
    def queue_ms(self) -> float:
        """Milliseconds since the frame was decoded."""
        return (time.monotonic() - self.arrived_s) * 1e3


def upright_rotation(image: av.VideoFrame) -> int:
    """Degrees clockwise (0, 90, 180, 270) that bring ``image`` upright, from its display matrix."""
    return round(-image.rotation / 90) % 4 * 90
