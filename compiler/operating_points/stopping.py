"""Stop rules from out-of-fold answers: when one more look is not worth its cost.

Optimal stopping by backward induction: after look k, what going on gained (by the rule for the looks after
it, less the price of what these cost) is regressed on the margin of the answer and on whether the last look
left it as it was: by tables that fall with the margin where clips are many, by lines where they are few
(benchmarks/README.md has both). The margin from which on the gain is negative is the rule. There is no
network, and deciding costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from compiler.operating_points.answers import Floats
from runtimes.spec import StopRule

NEVER = 2.0
"""A margin that no answer has."""
_BIN, _MOST_BINS = 30, 8
"""Clips to a bin of a table at least, and bins at most."""
_RIDGE = 1.0
"""Clips' worth of holding lines flat."""
_LEAST_SPREAD = 1e-6


def margins(scores: Floats) -> Floats:
    """By how much the best score leads the second (..., looks), of scores (..., looks, classes)."""
    ranked = np.partition(scores, -2, axis=-1)
    return np.asarray(ranked[..., -1] - ranked[..., -2])


def agreements(scores: Floats) -> NDArray[np.bool_]:
    """Whether each look left the best label as it was (clips, looks); not so after the first."""
    best = scores.argmax(axis=-1)
    return np.concatenate([np.zeros((len(best), 1), np.bool_), best[:, 1:] == best[:, :-1]], axis=1)


def fit_rules(
    scores: Floats, true_probability: Floats, costs: Floats, prices: Sequence[float]
) -> list[StopRule]:
    """A rule for each of the rising ``prices``; none stops later than that of a lower price.

    ``scores`` (clips, looks, classes) and ``true_probability`` (clips, looks) after each look; ``costs``
    (clips, looks) of all looks so far, in units of the whole plan's.
    """
    margin, agrees = margins(scores), agreements(scores)
    rules: list[StopRule] = []
    for price in prices:
        found = _fit(margin, agrees, true_probability, costs, price)
        if rules:
            found = _no_later(found, rules[-1])
        rules.append(found)
    return rules


def stopped_after(rule: StopRule, scores: Floats) -> NDArray[np.int64]:
    """After which look (clips,), counted from 0, the rule stops."""
    margin, agrees = margins(scores), agreements(scores)
    last = scores.shape[1] - 1
    needed = np.where(agrees[:, :last], np.array(rule.agreeing), np.array(rule.differing))
    stops = np.concatenate([margin[:, :last] >= needed, np.ones((len(scores), 1), np.bool_)], axis=1)
    return stops.argmax(axis=1)


def _fit(
    margin: Floats, agrees: NDArray[np.bool_], true_probability: Floats, costs: Floats, price: float
) -> StopRule:
    looks = margin.shape[1]
    utility = true_probability - price * costs
    going_on = utility[:, -1]
    agreeing, differing = [NEVER] * (looks - 1), [NEVER] * (looks - 1)
    for look in reversed(range(looks - 1)):
        same = agrees[:, look]
        agreeing[look], differing[look] = _limits(margin[:, look], same, going_on - utility[:, look])
        needed = np.where(same, agreeing[look], differing[look])
        going_on = np.where(margin[:, look] >= needed, utility[:, look], going_on)
    return StopRule(agreeing=tuple(agreeing), differing=tuple(differing))


def _limits(margin: Floats, agrees: NDArray[np.bool_], gain: Floats) -> tuple[float, float]:
    """The margins from which on going on gains nothing, where the last look agreed and where it differed."""
    if len(margin) < _MOST_BINS * _BIN:
        return by_lines(margin, agrees, gain)
    return by_tables(margin, agrees, gain)


def by_lines(margin: Floats, agrees: NDArray[np.bool_], gain: Floats) -> tuple[float, float]:
    """Ridge regression on the margin, apart for what agreed and what differed."""
    inputs = np.stack([margin, agrees, margin * agrees], axis=1)
    center, scale = inputs.mean(axis=0), inputs.std(axis=0) + _LEAST_SPREAD
    design = np.column_stack([np.ones(len(margin)), (inputs - center) / scale])
    penalty = _RIDGE * np.diag([0.0, 1.0, 1.0, 1.0])
    level, *slopes = np.linalg.solve(design.T @ design + penalty, design.T @ gain)
    by_margin, by_agreement, by_both = np.array(slopes) / scale
    level -= float(np.array(slopes) / scale @ center)
    return _no_gain(level + by_agreement, by_margin + by_both), _no_gain(level, by_margin)


def _no_gain(level: float, slope: float) -> float:
    """The margin from which on ``level + slope * margin`` is not above 0.

    Where it does not fall with the margin it says nothing of it: all or none.
    """
    if slope < 0:
        at = -level / slope
        return max(0.0, float(at)) if at < 1 else NEVER
    return 0.0 if level + slope / 2 <= 0 else NEVER


def by_tables(margin: Floats, agrees: NDArray[np.bool_], gain: Floats) -> tuple[float, float]:
    """Isotonic regression over bins of equal counts."""
    found = []
    for kind in (agrees, ~agrees):
        # Of too few no table can be made: all then count.
        used = kind if kind.sum() >= 2 * _BIN else np.ones(len(kind), np.bool_)
        found.append(_threshold(margin[used], gain[used]))
    return found[0], found[1]


def _threshold(margin: Floats, gain: Floats) -> float:
    """The margin from which on the gain of going on, falling with the margin, is not above 0."""
    order = np.argsort(margin, kind="stable")
    bins = np.array_split(order, max(1, min(_MOST_BINS, len(order) // _BIN)))
    means = falling(np.array([gain[rows].mean() for rows in bins]), np.array([len(rows) for rows in bins]))
    worthless = np.flatnonzero(means <= 0)
    return float(margin[bins[worthless[0]][0]]) if len(worthless) else NEVER


def falling(values: Floats, weights: NDArray[np.integer]) -> Floats:
    """The nearest values that never rise: isotonic regression by pooling adjacent violators."""
    blocks: list[tuple[float, int, int]] = []
    for value, weight in zip(values.tolist(), weights.tolist(), strict=True):
        mean, mass, length = value, weight, 1
        while blocks and blocks[-1][0] < mean:
            before, before_mass, before_length = blocks.pop()
            mean = (mean * mass + before * before_mass) / (mass + before_mass)
            mass, length = mass + before_mass, length + before_length
        blocks.append((mean, mass, length))
    return np.concatenate([np.full(length, mean) for mean, _, length in blocks])


def _no_later(rule: StopRule, before: StopRule) -> StopRule:
    return StopRule(
        agreeing=tuple(map(min, rule.agreeing, before.agreeing)),
        differing=tuple(map(min, rule.differing, before.differing)),
    )
