"""All signals of a stream, step by step."""

from __future__ import annotations

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from sdk.media.frames import Frame
from sdk.media.signals.block_luma import block_luma
from sdk.media.signals.change import PictureChange
from sdk.media.signals.sound_level import LevelChange, sound_level


class Signals(NamedTuple):
    """What a step's signals say, in standard deviations of what is usual; None: absent.

    ``change``: of the picture since the last look; ``motion``: since the step before; ``sound``: how much
    louder it has been since the last look. ``time_s``: of the step.
    """

    change: float | None = None
    motion: float | None = None
    sound: float | None = None
    time_s: float | None = None


NO_SIGNALS = Signals()


class SignalReading(NamedTuple):
    """What a step's signals are made of: ``luma`` (blocks,), its sound's ``level`` in decibels, its time."""

    luma: NDArray[np.float32]
    level: float | None
    time_s: float

    @classmethod
    def of(cls, frame: Frame, step_s: float) -> Self:
        """From a step's decoded frame; ``step_s``: seconds since the step before."""
        level = None if frame.sound is None else sound_level(frame.sound, step_s)
        return cls(block_luma(frame.image), level, frame.time_s)


class StreamSignals:
    """Measures the signals of one stream, reading by reading."""

    def __init__(self) -> None:
        self._change, self._level = PictureChange(), LevelChange()

    def measure(self, reading: SignalReading) -> Signals:
        """Take in one step."""
        level = None if reading.level is None else self._level.measure(reading.level)
        return Signals(*self._change.measure(reading.luma), level, reading.time_s)

    def mark_look(self) -> None:
        """The last step measured is being looked at: changes are counted from here on."""
        self._change.mark_look()
        self._level.mark_look()

    def reset(self) -> None:
        """Begin a new stream."""
        self._change.reset()
        self._level.reset()
