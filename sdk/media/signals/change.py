"""How much the picture has changed since the last look, in units of its own noise."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sdk.media.signals.block_luma import COLUMNS, ROWS

Floats = NDArray[np.float32]

_LEAST_NOISE = 0.25
"""Levels of luma: a still picture has no noise at all, and a single level is no event."""
_FIRST_NOISE = 1.0
_TO_SIGMA = 1.4826
"""From the median of absolute deviations to the standard deviation of a normal distribution."""
_STEPS = np.array([1 / 1.05, 1.05], np.float32)
"""Of the noise: down where a difference is smaller, up where it is larger."""
_LARGEST = 1e3


class PictureChange:
    """The largest change of any block since the last look.

    Each block is measured against its own noise: a running median of its differences from step to step, which
    follows what lasts (a fan, a tree, a worse light) within half a minute and is not moved by an event that
    ends before. What all blocks have in common is exposure, and is taken out. A difference is taken to the
    last look, not to the last step, so that what comes slowly adds up.
    """

    _last: Floats | None
    _looked_at: Floats | None
    _noise: Floats

    def __init__(self) -> None:
        self.reset()

    def measure(self, luma: Floats) -> tuple[float, float]:
        """Take in a step's blocks (n,): the change since the last look, and that since the step before.

        Both in standard deviations of noise; 0 where there was no look, or no step.
        """
        motion = 0.0
        if self._last is not None:
            difference = np.abs(_without_exposure(luma - self._last))
            motion = self._in_noise(difference)
            self._learn_noise(difference)
        self._last = luma
        if self._looked_at is None:
            return 0.0, motion
        return self._in_noise(np.abs(_without_exposure(luma - self._looked_at))), motion

    def mark_look(self) -> None:
        """The last step measured is being looked at."""
        self._looked_at = self._last

    def reset(self) -> None:
        """Begin a new stream."""
        self._last = self._looked_at = None
        self._noise = np.full(ROWS * COLUMNS, _FIRST_NOISE, np.float32)

    def _in_noise(self, difference: Floats) -> float:
        return min(float(np.maximum.reduce(difference / self._noise)) / _TO_SIGMA, _LARGEST)

    def _learn_noise(self, difference: Floats) -> None:
        """A step towards the median: up where the difference is larger, down by as much where it is not."""
        self._noise *= _STEPS[(difference > self._noise).view(np.uint8)]
        np.maximum(self._noise, _LEAST_NOISE, out=self._noise)


def _without_exposure(difference: Floats) -> Floats:
    middle = len(difference) // 2
    return difference - np.partition(difference, middle)[middle]
