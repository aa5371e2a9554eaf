"""Two neighboring points of a front in turn, so that clips cost on average what neither does alone."""

from __future__ import annotations

from runtimes.spec import OperatingPoint


class PointTurns:
    """Which of two points the next clip is run by: error diffusion, one step of it a clip.

    After any number of clips the upper one had its share of them, give or take half a clip.
    """

    def __init__(self, lower: OperatingPoint, upper: OperatingPoint, share: float, owed: float = 0.0) -> None:
        """``share``: of the clips that ``upper`` runs, 0 to 1; ``owed`` to it when they begin, in clips."""
        self.lower, self.upper, self.share, self.owed = lower, upper, share, owed

    def next_point(self) -> OperatingPoint:
        """The point of the clip that begins."""
        self.owed += self.share
        if self.owed < 0.5:
            return self.lower
        self.owed -= 1.0
        return self.upper
