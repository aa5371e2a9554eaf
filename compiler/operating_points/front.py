"""The front of candidates: its hull, sharing time between two of its points, and how lucky its choice was."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from compiler.operating_points.answers import Floats
from compiler.operating_points.candidates import Candidate

_SPLITS = 20


def hull(costs: Floats, values: Floats) -> list[int]:
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


def _slope(costs: Floats, values: Floats, one: int, other: int) -> float:
    rise, run = float(values[other] - values[one]), float(costs[other] - costs[one])
    return rise / run if run > 0 else np.inf


def sharing(costs: Floats, front: Sequence[int], cost: float) -> tuple[int, int, float]:
    """Two points of a front, and the share of the second, that together cost ``cost``.

    Below the front's first point, and above its last, these alone.
    """
    if cost <= costs[front[0]]:
        return front[0], front[0], 0.0
    for one, other in pairwise(front):
        if cost <= costs[other]:
            return one, other, float((cost - costs[one]) / (costs[other] - costs[one]))
    return front[-1], front[-1], 0.0


def means(candidates: Sequence[Candidate]) -> tuple[Floats, Floats]:
    """Mean cost and mean probability of the true class of each candidate."""
    costs = np.array([one.cost.mean() for one in candidates])
    return costs, np.array([one.true_probability.mean() for one in candidates])


def halves(groups: Sequence[str], seed: int = 0, splits: int = _SPLITS) -> list[Floats]:
    """Random halves of clips (clips,), as 0 and 1: groups are not parted."""
    names = sorted(set(groups))
    place = {name: number for number, name in enumerate(names)}
    rows = np.array([place[group] for group in groups])
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(splits):
        side = generator.permutation(np.arange(len(names)) % 2)
        found.append(side[rows].astype(np.float64))
    return found


def optimism(candidates: Sequence[Candidate], groups: Sequence[str]) -> float:
    """By how much the front chosen on one half of the clips is better there than on the other half.

    Mean over random halves, both ways, and over the front's points: the luck in the best of many.
    """
    true = np.stack([one.true_probability for one in candidates])
    costs = np.stack([one.cost for one in candidates])
    differences = []
    for side in halves(groups):
        for own in (side == 0, side == 1):
            if own.all() or not own.any():
                continue
            chosen = hull(costs[:, own].mean(axis=1), true[:, own].mean(axis=1))
            differences.append(float((true[chosen][:, own].mean(1) - true[chosen][:, ~own].mean(1)).mean()))
    return float(np.mean(differences)) if differences else 0.0
