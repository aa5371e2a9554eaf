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
_STEPS = np.array([1 / 1.03, 1.03], np.float32)
"""Of the noise: down where a difference is smaller, up where it is larger."""
_LARGEST = 1e3
_BLOCKS = ROWS * COLUMNS
_MIDDLE, _THIRD, _SIXTH = _BLOCKS // 2, _BLOCKS // 3, _BLOCKS // 6
_LEAST_CONTRAST = 8.0
"""Levels between dark and bright blocks, below which they do not tell how much brighter all has become."""
_LEAST_GAIN, _LARGEST_GAIN = -0.6, 1.5
"""Beside 1: what is farther off is no exposure."""


class PictureChange:
    """The largest change of any block since the last look.

    Each block is measured against its own noise: a running median of its differences from step to step, which
    follows what lasts (a fan, a tree, a worse light) within half a minute and is not moved by an event that
    ends before. What all blocks have in common, a gain and an offset, is exposure, and is taken out. A
    difference is taken to the last look, not to the last step, so that what comes slowly adds up.
    """

    _last: _Blocks | None
    _looked_at: _Blocks | None
    _noise: Floats

    def __init__(self) -> None:
        self.reset()

    def measure(self, luma: Floats) -> tuple[float, float]:
        """Take in a step's blocks (n,): the change since the last look, and that since the step before.

        Both in standard deviations of noise; 0 where there was no look, or no step.
        """
        blocks, motion, change = _Blocks(luma), 0.0, 0.0
        if self._last is not None:
            difference = blocks.difference(self._last)
            motion = self._in_noise(difference)
            self._learn_noise(difference)
            if self._looked_at is not None:
                same = self._looked_at is self._last
                change = self._in_noise(difference if same else blocks.difference(self._looked_at))
        self._last = blocks
        return change, motion

    def mark_look(self) -> None:
        """The last step measured is being looked at."""
        self._looked_at = self._last

    def reset(self) -> None:
        """Begin a new stream."""
        self._last = self._looked_at = None
        self._noise = np.full(_BLOCKS, _FIRST_NOISE, np.float32)

    def _in_noise(self, difference: Floats) -> float:
        return min(float(np.maximum.reduce(difference / self._noise)) / _TO_SIGMA, _LARGEST)

    def _learn_noise(self, difference: Floats) -> None:
        """A step towards the median: up where the difference is larger, down by as much where it is not."""
        self._noise *= _STEPS[(difference > self._noise).view(np.uint8)]
        np.maximum(self._noise, _LEAST_NOISE, out=self._noise)


class _Blocks:
    """A step's blocks (n,), with which of them are the darkest and the brightest third."""

    def __init__(self, luma: Floats) -> None:
        self.luma = luma
        order = np.argsort(luma)
        self._dark, self._bright = order[:_THIRD], order[-_THIRD:]
        self._contrast = float(luma[order[-1 - _SIXTH]] - luma[order[_SIXTH]])

    def difference(self, before: _Blocks) -> Floats:
        """Absolute differences (n,) to those of before, exposure taken out.

        Its gain is the slope of a resistant line (Tukey 1977): how much more most of the brightest third
        changed than most of the darkest. An object in a few blocks does not move it.
        """
        change = self.luma - before.luma
        if before._contrast >= _LEAST_CONTRAST:
            more = (_median(change[before._bright]) - _median(change[before._dark])) / before._contrast
            change -= min(max(more, _LEAST_GAIN), _LARGEST_GAIN) * before.luma
        ranked = change.copy()
        ranked.partition(_MIDDLE)
        change -= ranked[_MIDDLE]
        return np.abs(change, out=change)


def _median(values: Floats) -> float:
    """Of a third of the blocks, which are put into another order: that is twice as fast as a copy."""
    values.partition(_SIXTH)
    return float(values[_SIXTH])
