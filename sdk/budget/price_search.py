"""Which price to ask, by the power that each would lead to: the lowest that keeps to the power limit.

It rises at once and falls with care, so that a choice between two options, of which one is a little too much,
does not flap.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Powers = Callable[[Floats], Floats]
"""The power (W) that each of some prices leads to; it never rises with the price."""

HIGHEST_PRICE = 50.0
"""Above the range that policies are trained for: only the cheapest options are left."""
_PRICES = np.concatenate([[0.0], np.geomspace(0.03, HIGHEST_PRICE, 15)])
_FINER = np.linspace(0.0, 1.0, 17)[1:]

_AIM = 0.985
"""Of the power limit: what the price aims at."""
_ENOUGH = 0.965
"""Of the power limit: from here on the price stays as it is, though a lower one might do."""
_RECOVERY_S = 3.0
"""In how long a shortfall of the energy reserve is made up for."""
_LOW = 0.3
"""How full the energy reserve may be before the target is lowered."""
_FIRST_PRICE, _DRY = 0.1, 0.02
"""While the reserve is low: the price to start from at least; and how empty it may be to raise it further."""
_HYSTERESIS, _MOST_HYSTERESIS = 0.1, 1.0
"""By how much of a step up in power that must stay below the target; after failures more."""
_GAIN, _FORGETTING, _MOST_UNUSED = 0.1, 0.98, 0.15
"""How fast what stays unused is aimed for, how fast that is forgotten, and what share it is at most."""
_STEP = 0.1
"""Of the power limit: a step up in power of so much is one from option to option."""
_LONGEST_FALL, _SMALL = 0.35, 0.1
"""To what share of itself, less a little, the price falls at most in one move."""
_PROBATION_S, _BACKOFF_S = 60.0, 300.0
"""How long a step up is on probation, and how long a failure is remembered."""


class PriceSearch:
    """The price, moved about once a second; and raised in between while the energy reserve runs dry."""

    def __init__(self, price: float) -> None:
        self.price = price
        self.restart()

    def restart(self) -> None:
        """Another budget, or another device than it was: what failed before may do now."""
        self._hysteresis = _HYSTERESIS
        self._stepped_s = self._failed_s = -math.inf
        self._unused_w = 0.0

    def price_at(self, share: float) -> float:
        """The price while the energy reserve is so full: the emptier, the higher."""
        if share >= _LOW:
            return self.price
        return min(max(self.price, _FIRST_PRICE) * _LOW / max(share, _DRY), HIGHEST_PRICE)

    def search(
        self,
        now_s: float,
        watts: float,
        share: float,
        depth_j: float,
        powers: Powers,
        used_w: float | None = None,
    ) -> None:
        """Move to the lowest price that leads to ``watts`` at most, if that is worth a change.

        ``share``: how full the energy reserve of ``depth_j`` joules is. ``used_w``: the power used of late;
        where ups and downs that the reserve cannot bear keep it below what the price leads to, the aim is
        higher.
        """
        makes_up_w = max(_LOW - share, 0.0) * depth_j / _RECOVERY_S
        watts += self._unused_w
        target_w = _AIM * watts - makes_up_w
        if now_s - self._failed_s > _BACKOFF_S:
            self._hysteresis = _HYSTERESIS
        now_w = float(powers(np.array([self.price]))[0])
        self._unused_w *= _FORGETTING
        if used_w is not None and now_w >= _ENOUGH * watts - makes_up_w:
            most_w = _MOST_UNUSED * (watts - self._unused_w)
            self._unused_w = min(self._unused_w + _GAIN * max(_AIM * watts - used_w, 0.0), most_w)
        if now_w > watts - makes_up_w:
            if now_s - self._stepped_s < _PROBATION_S:
                self._hysteresis = min(4 * self._hysteresis, _MOST_HYSTERESIS)
                self._failed_s, self._stepped_s = now_s, -math.inf
            self.price = max(_lowest(powers, target_w)[0], self.price)
        elif now_w < _ENOUGH * watts - makes_up_w and self.price > 0:
            price, power_w = _lowest(powers, (target_w + self._hysteresis * now_w) / (1 + self._hysteresis))
            if power_w > now_w or price == 0:  # any price keeps to it: none is paid
                # Far below the price in force the curve is a guess: not all the way at once.
                self.price = max(min(price, self.price), _LONGEST_FALL * self.price - _SMALL)
                if power_w - now_w > _STEP * watts:
                    self._stepped_s = now_s


def _lowest(powers: Powers, target_w: float) -> tuple[float, float]:
    """The lowest price that leads to ``target_w`` at most, and its power; the highest if none does."""
    found = powers(_PRICES)
    place = _first_within(found, target_w)
    if place == 0 or found[place] > target_w:
        return float(_PRICES[place]), float(found[place])
    between = _PRICES[place - 1] + (_PRICES[place] - _PRICES[place - 1]) * _FINER
    found = powers(between)
    place = _first_within(found, target_w)
    return float(between[place]), float(found[place])


def _first_within(powers: Floats, target_w: float) -> int:
    """The place of the first power that is ``target_w`` at most; the last place if none is."""
    fitting = np.flatnonzero(powers <= target_w)
    return int(fitting[0]) if len(fitting) else len(powers) - 1
