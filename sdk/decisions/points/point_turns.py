"""Two neighboring points of a front in turn, so that clips cost on average what neither does alone."""

from __future__ import annotations

from runtimes.spec import OperatingPoint


class PointTurns:
    """Which of two points the next clip is run by: error diffusion, one step of it a clip.

    After any number of clips the upper one had its share of them, give or take half a clip.
    """

    def __init__(self, lower: OperatingPoint, upper: OperatingPoint, share: float) -> None:
        """``share``: of the clips that ``upper`` runs, 0 to 1."""
        self.lower, self.upper, self.share = lower, upper, share
        self._owed = 0.0

    def next_point(self) -> OperatingPoint:
        """The point of the clip that begins."""
        self._owed += self.share
        if self._owed < 0.5:
            return self.lower
        self._owed -= 1.0
        return self.upper
