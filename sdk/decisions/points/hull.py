"""Which ways to run are worth their cost: those that neither another nor two others together beat."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64] | Sequence[float]


def hull(costs: Values, values: Values) -> list[int]:
    """The places of the points that no other, and no sharing of time between two others, beats.

    By rising cost; both cost and value rise from each to the next, and the gain per cost falls.
    """
    found: list[int] = []
    for place in sorted(range(len(costs)), key=lambda i: (costs[i], -values[i])):
        if found and values[place] <= values[found[-1]]:
            continue
        while len(found) > 1 and _slope(costs, values, found[-2], found[-1]) <= _slope(
            costs, values, found[-2], place
        ):
            found.pop()
        found.append(place)
    return found


def sharing(costs: Values, front: Sequence[int], cost: float) -> tuple[int, int, float]:
    """Two places of a front, by rising cost, and the share of the second, that together cost ``cost``.

    Below the front's first place, and above its last, these alone.
    """
    if cost <= costs[front[0]]:
        return front[0], front[0], 0.0
    for one, other in pairwise(front):
        if cost <= costs[other]:
            return one, other, float((cost - costs[one]) / (costs[other] - costs[one]))
    return front[-1], front[-1], 0.0


def _slope(costs: Values, values: Values, one: int, other: int) -> float:
    rise, run = float(values[other] - values[one]), float(costs[other] - costs[one])
    return rise / run if run > 0 else np.inf
