"""Sharing time between two ways to run, so that their average is the power limit.

Of the ways to run, one takes a little less than is allowed and the next a little more. In cycles of 30 s
first the lower one runs and then the upper, which begins as soon as all that is left of the cycle can be its.
So the way changes twice in 30 s at most, and any 30 s hold as much of both as a cycle does. After a change of
budget or load the first cycles are shorter, so that the average is there within seconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sdk.budget.power_level import PowerLevel

_AIM = 0.995
"""Of the power limit: what a cycle aims at."""
_ENOUGH = 0.985
"""Of the power limit: who takes so much shares no time with the next."""
_LENGTHS_S = (5.0, 10.0, 15.0, 30.0)
"""Of the first cycles; the last is that of all that follow. Each sums up to what a later one may hold."""
_UNUSED = 0.95
"""Of the power limit: who takes less, though there is more to run, is not enough any more."""
_AFTER_LOAD = 2
"""Which of the cycles comes first after a change of load."""
_SHORTEST_S = 1.0
"""The upper way runs at least for so long, or not in this cycle."""
_MOST_LEFT_S, _OVERUSED_S = 0.6, 0.3
"""Seconds of the power limit: what the next cycle makes up for at most, of what one left over or overdrew;
and what the lower way may take too much."""
_TELLING_S, _MOST_OFF = 3.0, 1.25
"""How long the upper way has to run for its power to be seen; and by which factor that counts at most."""
_COVERED = 0.5
"""Of what the upper way uses beyond the limit, what has to be there when it begins."""
_AFTER_OVERUSE_S = 5.0
"""For how long the lower way runs where the upper one took more than was thought."""
_SETTLED_S = 2.0
"""For so long the lower way may take too much: the first step pays for what the last way began."""
_CHANGED = 0.05
"""Of the power limit: a change of it that begins a new cycle."""


@dataclass(slots=True)
class _Cycle:
    """From its beginning on: what was allowed and used (J), and which way runs."""

    began_s: float
    ends_s: float
    watts: float
    lower: PowerLevel
    upper: PowerLevel | None
    allowed_j: float
    used_j: float = 0.0
    upper_j: float = 0.0
    upper_s: float = 0.0
    in_upper: bool = False
    lower_until_s: float = -math.inf

    def left_j(self, left_s: float) -> float:
        """What may be used until its end."""
        return self.allowed_j + self.watts * left_s - self.used_j

    def upper_off(self) -> float | None:
        """By which factor the upper way took more than was thought; None where it ran too shortly to say."""
        if self.upper is None or self.upper_s < _TELLING_S:
            return None
        off = self.upper_j / (self.upper_s * self.upper.power_w)
        return max(1 / _MOST_OFF, min(off, _MOST_OFF))


class TimeSharing:
    """The way to run now; moved about once a second, asked at each step."""

    def __init__(self) -> None:
        self._cycle: _Cycle | None = None
        self._restarted = True
        self._cycles = 0
        self._off = 1.0

    def restart(self, *, at_once: bool = True) -> None:
        """Another budget, or another load: the next move begins a new cycle, and owes nothing.

        ``at_once``: with the shortest, so that the average is there in seconds.
        """
        self._restarted = True
        self._cycles = 0 if at_once else min(self._cycles, _AFTER_LOAD)

    @property
    def current(self) -> PowerLevel | None:
        """What runs; None before the first move."""
        cycle = self._cycle
        if cycle is None:
            return None
        return cycle.upper if cycle.in_upper else cycle.lower

    @property
    def swing_j(self) -> float:
        """What the lower way saves in a whole cycle for the upper one to use."""
        cycle = self._cycle
        if cycle is None or cycle.upper is None:
            return 0.0
        lower_w, upper_w = cycle.lower.power_w, cycle.upper.power_w
        if not lower_w < cycle.watts < upper_w:
            return 0.0
        lower_share = (upper_w - cycle.watts) / (upper_w - lower_w)
        return _LENGTHS_S[-1] * lower_share * (cycle.watts - lower_w)

    def record_use(self, allowed_j: float, used_j: float) -> None:
        """Record what was allowed and what was used since the last time."""
        if self._cycle is not None:
            self._cycle.allowed_j += _AIM * allowed_j
            self._cycle.used_j += used_j
            if self._cycle.in_upper:
                self._cycle.upper_j += used_j
                self._cycle.upper_s += _AIM * allowed_j / self._cycle.watts

    def level_at(self, now_s: float, room_j: float = math.inf) -> PowerLevel | None:
        """What is to run now; None before the first move.

        ``room_j``: what may be used beyond what is allowed; the upper way begins where that lasts for it.
        """
        cycle = self._cycle
        if cycle is not None and cycle.upper is not None:
            left_s = cycle.ends_s - now_s
            left_j = cycle.left_j(left_s)
            if not cycle.in_upper and now_s >= cycle.lower_until_s:
                upper_w = self._off * cycle.upper.power_w
                lasts = _COVERED * (upper_w - cycle.watts) * left_s <= room_j
                cycle.in_upper = lasts and left_s >= _SHORTEST_S and upper_w * left_s <= left_j
            elif cycle.lower.power_w * left_s > left_j:  # it took more than was thought
                cycle.in_upper, cycle.lower_until_s = False, now_s + _AFTER_OVERUSE_S
        return self.current

    def move(self, now_s: float, watts: float, levels: Sequence[PowerLevel]) -> None:
        """Take in what the ways to run lead to by now, and begin a new cycle if this one is over."""
        cycle = self._cycle
        if cycle is None or self._restarted or self._ends(cycle, now_s, watts, levels):
            self._begin(now_s, watts, levels)

    def _ends(self, cycle: _Cycle, now_s: float, watts: float, levels: Sequence[PowerLevel]) -> bool:
        lower, upper = _again(cycle.lower, levels), cycle.upper and _again(cycle.upper, levels)
        if lower is None or (cycle.upper is not None and upper is None):
            return True
        cycle.lower, cycle.upper = lower, upper
        if now_s >= cycle.ends_s or abs(_AIM * watts - cycle.watts) > _CHANGED * cycle.watts:
            return True
        overused = cycle.used_j - cycle.allowed_j > _OVERUSED_S * watts
        if overused and not cycle.in_upper and now_s - cycle.began_s > _SETTLED_S:
            return lower is not levels[0]
        if upper is not None and upper.power_w < _UNUSED * watts:
            return True
        if upper is None:  # nothing is shared, so that nothing waits for the cycle's end
            return lower.power_w > watts or (lower.power_w < _UNUSED * watts and lower != levels[-1])
        return False

    def _begin(self, now_s: float, watts: float, levels: Sequence[PowerLevel]) -> None:
        last = self._cycle
        left_j = 0.0 if last is None or self._restarted else last.allowed_j - last.used_j
        self._restarted = False
        lower, upper = _choose(watts, levels)
        self._off = self._next_off(last, upper)
        if last is not None and last.lower.same_way(lower) and last.upper is None and upper is None:
            self._cycles -= self._cycles > 0  # nothing has begun
        length_s = _LENGTHS_S[min(self._cycles, len(_LENGTHS_S) - 1)]
        self._cycles += 1
        left_j = max(-_MOST_LEFT_S * watts, min(left_j, _MOST_LEFT_S * watts))
        self._cycle = _Cycle(now_s, now_s + length_s, _AIM * watts, lower, upper, left_j)

    def _next_off(self, last: _Cycle | None, upper: PowerLevel | None) -> float:
        """What was seen of the upper way in the last cycle, if it is the same again; half of it at a time."""
        if last is None or last.upper is None or upper is None or not last.upper.same_way(upper):
            return 1.0
        seen = last.upper_off()
        return self._off if seen is None else (self._off + seen) / 2


def _choose(watts: float, levels: Sequence[PowerLevel]) -> tuple[PowerLevel, PowerLevel | None]:
    """The last level that keeps to the aim, and the next if time is to be shared with it."""
    lower = [level for level in levels if level.power_w <= _AIM * watts]
    if not lower or lower[-1].power_w >= _ENOUGH * watts or len(lower) == len(levels):
        return (lower or levels)[-1 if lower else 0], None
    next_w = levels[len(lower)].power_w
    return lower[-1], [level for level in levels if level.power_w <= next_w][-1]


def _again(level: PowerLevel, levels: Sequence[PowerLevel]) -> PowerLevel | None:
    """The same way to run by what is known now."""
    return next((other for other in levels if other.same_way(level)), None)
