"""Which candidates that are no schedules are offered: those that a paired test shows to be better.

A candidate's rival is what schedules reach at its own full cost, by sharing time between the two around it;
the two are chosen on other groups of clips than the difference is measured on. The one-sided 95 % lower bound
of the mean difference in the probability of the true class comes from a bootstrap over groups; the largest of
all candidates' deviations counts, as the best of many is to be admitted (max-statistic bootstrap).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm as normal
from scipy.stats import t as student_t

from compiler.operating_points.answers import Floats
from compiler.operating_points.candidates import Candidate
from compiler.operating_points.front import halves
from sdk.decisions.points.hull import hull, sharing

DRAWS = 2000
FEWEST_GROUPS = 5
"""Groups of clips below which nothing is proven: how much they differ is not known from so few."""
_CONFIDENCE = 0.95
_SAME_ANSWERS = 0.99
_NO_WORSE = -0.005
_TINY = 1e-9


@dataclass(frozen=True)
class Admission:
    """How a candidate did: the mean difference to schedules at its cost, and its lower bound.

    ``reason``: as what it is admitted; None if it is not.
    """

    difference: float
    lower: float
    reason: Literal["better", "cheaper twin"] | None


def group_draws(groups: Sequence[str], seed: int = 0, draws: int = DRAWS) -> Floats:
    """Bootstrap weights of clips (draws, clips): whole groups are drawn.

    Of few groups a bootstrap is too sure of itself: its variance is that of a sample, not of what it was
    drawn from, and its quantiles are a normal distribution's. So weights lie farther from their mean, by
    sqrt(G / (G - 1)) and by Student's t over the normal quantile (Cameron, Gelbach and Miller 2008).
    """
    names = sorted(set(groups))
    place = {name: number for number, name in enumerate(names)}
    rows = np.array([place[group] for group in groups])
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws)
    weights = counts[:, rows].astype(np.float64)
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1.0)
    even = 1 / len(groups)
    return even + _few_groups(len(names)) * (weights - even)


def _few_groups(count: int) -> float:
    """By how much intervals of a bootstrap over so many groups are too narrow."""
    if count < 2:
        return 1.0
    tails = float(student_t.ppf(_CONFIDENCE, count - 1) / normal.ppf(_CONFIDENCE))
    return math.sqrt(count / (count - 1)) * tails


def judge(
    candidates: Sequence[Candidate], schedules: Sequence[Candidate], groups: Sequence[str]
) -> list[Admission]:
    """Test every candidate against ``schedules``. Of fewer than ``FEWEST_GROUPS`` none is admitted."""
    if not candidates:
        return []
    draws, rivals = group_draws(groups), _Rivals(schedules, groups)
    both = [rivals.difference(one) for one in candidates]
    lower = simultaneous_lower_bounds(np.stack([true for true, _ in both]), draws)
    found, enough = [], len(set(groups)) >= FEWEST_GROUPS
    for place, (one, (true, right)) in enumerate(zip(candidates, both, strict=True)):
        reason: Literal["better", "cheaper twin"] | None = None
        if enough and lower[place] > 0 and right.mean() >= 0:
            reason = "better"
        elif enough and _is_cheaper_twin(one, schedules, draws):
            reason = "cheaper twin"
        found.append(Admission(float(true.mean()), float(lower[place]), reason))
    return found


def simultaneous_lower_bounds(differences: Floats, draws: Floats) -> Floats:
    """One-sided 95 % lower bounds of the mean of each row (rows, clips), all holding together."""
    mean = differences.mean(axis=1)
    drawn = differences @ draws.T
    error = np.maximum(drawn.std(axis=1), _TINY)
    deviation = ((drawn - mean[:, None]) / error[:, None]).max(axis=0)
    return np.asarray(mean - np.quantile(deviation, _CONFIDENCE) * error)


class _Rivals:
    """What schedules reach at any cost, chosen on one half of the clips and seen on the other."""

    def __init__(self, schedules: Sequence[Candidate], groups: Sequence[str]) -> None:
        self._true = np.stack([one.true_probability for one in schedules])
        self._right = np.stack([one.right for one in schedules]).astype(np.float64)
        costs = np.stack([one.cost for one in schedules])
        self._fronts = []
        for side in halves(groups):
            for chosen_on in (side == 0, side == 1):
                if chosen_on.any() and not chosen_on.all():
                    mean_costs = costs[:, chosen_on].mean(axis=1)
                    front = hull(mean_costs, self._true[:, chosen_on].mean(axis=1))
                    self._fronts.append((chosen_on, mean_costs, front))

    def difference(self, candidate: Candidate) -> tuple[Floats, Floats]:
        """(clips,) each: its probability of the true class, and whether it is right, less theirs."""
        true, right = candidate.true_probability, candidate.right.astype(np.float64)
        totals, count = np.zeros((2, len(true))), np.zeros(len(true))
        for chosen_on, costs, front in self._fronts:
            one, other, share = sharing(costs, front, float(candidate.cost[chosen_on].mean()))
            seen = ~chosen_on
            for total, own, theirs in zip(totals, (true, right), (self._true, self._right), strict=True):
                rival = (1 - share) * theirs[one] + share * theirs[other]
                total[seen] += (own - rival)[seen]
            count[seen] += 1
        if not count.all():  # one group alone: nothing to choose on
            return np.full(len(true), -1.0), np.full(len(true), -1.0)
        return totals[0] / count, totals[1] / count


def _is_cheaper_twin(candidate: Candidate, schedules: Sequence[Candidate], draws: Floats) -> bool:
    """Whether it stops a schedule of its own looks early and answers as that does, for surely less."""
    if candidate.kind != "stopping" or candidate.plan is None:
        return False
    twin = next((one for one in schedules if one.plan == candidate.plan), None)
    if twin is None:
        return False
    saves = np.quantile(draws @ (candidate.cost - twin.cost), _CONFIDENCE) < 0
    difference = candidate.true_probability - twin.true_probability
    no_worse = np.quantile(draws @ difference, 1 - _CONFIDENCE) > _NO_WORSE
    same = _surely_same(candidate.best == twin.best)
    return bool(saves and (no_worse or same))


def _surely_same(same: NDArray[np.bool_]) -> bool:
    """Whether the share of equal answers is above 99 % with 95 % confidence (Clopper-Pearson)."""
    equal, clips = int(same.sum()), len(same)
    as_many = sum(
        math.comb(clips, count) * _SAME_ANSWERS**count * (1 - _SAME_ANSWERS) ** (clips - count)
        for count in range(equal, clips + 1)
    )
    return as_many < 1 - _CONFIDENCE
