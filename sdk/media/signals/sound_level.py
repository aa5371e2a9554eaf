"""Whether it has become louder than it mostly is, accumulated since the last look."""

from __future__ import annotations

import math

import numpy as np

from sdk.media.frames import Sound

_QUIETEST = 1e-5
"""Of full scale: below it is digital silence, and any of its levels is the same."""
_FIRST_SPREAD, _LEAST_SPREAD = 3.0, 1.0
"""Decibels by which the level strays from its median."""
_STEP_DB = 0.1
_STEP_SPREAD = 1.05
_TO_SIGMA = 1.4826
_SLACK = 1.0
"""Standard deviations above the median that do not add up: the reference value of the CUSUM."""
_LARGEST = 1e3


def sound_level(sound: Sound, new_s: float) -> float | None:
    """Decibels of full scale of the last ``new_s`` seconds of a step's sound; None where there is none."""
    if sound.absent is not None or not sound.samples.size:
        return None
    samples = sound.samples[-max(1, round(new_s * sound.rate_hz)) :]
    power = float(np.square(samples).mean())  # np.dot of so many would wait for threads
    return 10 * math.log10(power + _QUIETEST**2)


class LevelChange:
    """CUSUM (Page 1954) of the level, against its running median and spread, both in decibels."""

    _median: float | None
    _spread: float
    _sum: float

    def __init__(self) -> None:
        self.reset()

    def measure(self, level: float) -> float:
        """Take in a step's level; how many standard deviations too loud it has been, added up."""
        if self._median is None:
            self._median = level
        above = (level - self._median) / (_TO_SIGMA * self._spread)
        self._sum = min(max(0.0, self._sum + above - _SLACK), _LARGEST)
        self._learn(level)
        return self._sum

    def mark_look(self) -> None:
        """It is being listened to: what was heard until now counts no more."""
        self._sum = 0.0

    def reset(self) -> None:
        """Begin a new stream."""
        self._median = None
        self._spread = _FIRST_SPREAD
        self._sum = 0.0

    def _learn(self, level: float) -> None:
        assert self._median is not None, "it is known before it is learned"
        away = level - self._median
        self._median += math.copysign(min(_STEP_DB, abs(away)), away)
        self._spread *= _STEP_SPREAD if abs(away) > self._spread else 1 / _STEP_SPREAD
        self._spread = max(self._spread, _LEAST_SPREAD)
