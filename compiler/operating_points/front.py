"""The front of candidates: what each comes to on average, and how lucky the choice of the best was."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compiler.operating_points.answers import Floats
from compiler.operating_points.candidates import Candidate
from sdk.decisions.points.hull import hull

_SPLITS = 20


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
