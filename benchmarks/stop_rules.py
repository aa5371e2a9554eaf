"""Stop rules by lines and by tables, and whether a learned exit, or looking coarse to fine, would beat them.

    python -m benchmarks.stop_rules BUNDLE=RUN [BUNDLE=RUN ...]

RUN is the folder of the compile's training that holds the answers its points were judged by
(``answers-<variant>.npz``). Every rule judges clips that its group had no part in (five folds of groups).
Written to ``benchmarks/results/stop-rules.json``: the mean probability of the true class over log cost of
schedules alone, and with plans that stop by tables, by lines, by a learned exit, and coarse to fine;
and the cross-entropy of "the answer is right" by tables of the margin and by a learned head.

The learned exit: what going on gains, less its price, by ridge regression on margin, agreement, entropy and
the best score, look by look backwards, as the tables do it. The learned head: logistic regression on the
same, all looks together (BERxiT's, Xin et al., EACL 2021, on the answer in place of the features).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.record import write
from compiler.operating_points import plans, stopping
from compiler.operating_points.answers import Answers, Floats, joined
from compiler.operating_points.candidates import (
    PRICES,
    Candidate,
    group_folds,
    of_scores,
    schedule_candidates,
    stopping_candidates,
)
from compiler.operating_points.fit_fusion import fit_fusion
from compiler.operating_points.front import means
from compiler.operating_points.gathering import part_costs
from compiler.operating_points.plans import escalations, follow
from compiler.operating_points.stopping import agreements, falling, margins
from runtimes.bundle import Bundle
from runtimes.device import device_name
from runtimes.spec import LookFusion
from sdk.decisions.points.hull import hull, sharing

_FOLDS, _MOST_LOOKS, _GRID = 5, 5, 100
_RIDGE = 5.0
_BIN = 30

Fitted = Callable[[Floats], Floats]


def main() -> None:
    rows = []
    for given in sys.argv[1:]:
        bundle, _, run = given.partition("=")
        rows.append(_row(Path(bundle), Path(run)))
        print(rows[-1])
    print(write("stop-rules", {"rows": rows}))


def _row(path: Path, run: Path) -> dict[str, Any]:
    bundle = Bundle.open(path)
    variant = bundle.variant(None).name
    answers = joined([Answers.load(file) for file in sorted(run.rglob(f"answers-{variant}.npz"))])
    table = bundle.costs(device_name(), "CPUExecutionProvider")
    assert table is not None, f"{path} has a cost table"
    costs, _ = part_costs(answers.parts, table)
    fusion = fit_fusion(answers)
    schedules = schedule_candidates(answers, fusion, costs)
    order = sorted(
        answers.looks, key=lambda look: float(answers.look_runs[answers.looks.index(look)] @ costs)
    )
    order = order[-_MOST_LOOKS:]
    tables = _stopping(stopping.by_tables, answers, fusion, costs, order)
    lines = _stopping(stopping.by_lines, answers, fusion, costs, order)
    learned = _learned_exits(answers, fusion, costs, order)
    coarse = _coarse_to_fine(answers, fusion, costs, order)
    ways = {"schedules": [], "tables": tables, "lines": lines, "learned exit": learned}
    ways["coarse to fine"] = coarse
    by_table, by_head = _cross_entropies(answers, fusion, order)
    return {
        "bundle": path.name,
        "variant": variant,
        "clips": len(answers),
        "true_probability_over_log_cost": {
            name: round(_area([*schedules, *others], schedules), 4) for name, others in ways.items()
        },
        "cross_entropy_of_being_right": {"tables": round(by_table, 4), "learned head": round(by_head, 4)},
    }


def _stopping(
    limits: Any,
    answers: Answers,
    fusion: LookFusion,
    costs: Floats,
    order: list[str],
) -> list[Candidate]:
    """Plans with stop rules of one kind, however many clips there are."""
    own, stopping._limits = stopping._limits, limits
    try:
        return stopping_candidates(answers, fusion, costs, order)
    finally:
        stopping._limits = own


def _area(candidates: list[Candidate], schedules: list[Candidate]) -> float:
    """Mean over log cost, from the cheapest schedule to the most expensive, of what two in turn reach."""
    costs, values = means(candidates)
    own, _ = means(schedules)
    front = hull(costs, values)
    reached = []
    for cost in np.geomspace(own.min(), own.max(), _GRID):
        one, other, share = sharing(costs, front, float(cost))
        reached.append((1 - share) * values[one] + share * values[other])
    return float(np.mean(reached))


def _features(scores: Floats) -> Floats:
    """(clips, looks, features) of scores (clips, looks, classes)."""
    clipped = np.clip(scores, 1e-9, 1.0)
    entropy = -(clipped * np.log(clipped)).sum(axis=-1)
    best = clipped.max(axis=-1)
    margin, agrees = margins(scores), agreements(scores).astype(np.float64)
    return np.stack([margin, agrees, entropy, best, margin * agrees], axis=-1)


def _ridge(features: Floats, targets: Floats) -> Fitted:
    center, scale = features.mean(axis=0), features.std(axis=0) + 1e-6

    def design(values: Floats) -> Floats:
        return np.column_stack([np.ones(len(values)), (values - center) / scale])

    known = design(features)
    penalty = _RIDGE * np.diag([0.0] + [1.0] * features.shape[1])
    weights = np.linalg.solve(known.T @ known + penalty, known.T @ targets)
    return lambda values: np.asarray(design(values) @ weights)


def _learned_exits(answers: Answers, fusion: LookFusion, costs: Floats, order: list[str]) -> list[Candidate]:
    folds, rows, found = group_folds(answers.groups, _FOLDS), np.arange(len(answers)), []
    for plan in escalations(answers, order):
        course = follow(answers, fusion, plan)
        features = _features(course.scores)
        true = np.take_along_axis(course.scores, answers.targets[:, None, None], axis=2)[..., 0]
        spent = course.runs @ costs
        for price in PRICES:
            left = np.zeros(len(answers), np.int64)
            for own, other in _parted(folds):
                utility = true[other] - price * spent[other] / spent[other][:, -1].mean()
                left[own] = _exits(features[other], utility, features[own])
            scores, runs = course.scores[rows, left], course.runs[rows, left]
            found.append(of_scores(plan.name, "stopping", answers, scores, runs, costs, plan=plan))
    return found


def _exits(features: Floats, utility: Floats, judged: Floats) -> NDArray[np.int64]:
    """After which look each of the ``judged`` (clips, looks, features) stops."""
    going_on, last = utility[:, -1], utility.shape[1] - 1
    left = np.full(len(judged), last)
    for look in reversed(range(last)):
        gain = _ridge(features[:, look], going_on - utility[:, look])
        going_on = np.where(gain(features[:, look]) <= 0, utility[:, look], going_on)
        left = np.where(gain(judged[:, look]) <= 0, look, left)
    return left


def _coarse_to_fine(answers: Answers, fusion: LookFusion, costs: Floats, order: list[str]) -> list[Candidate]:
    """The same plans and the product's rules, from the middle of the clip outwards and then between."""
    in_time = plans._positions

    def positions(steps: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        found = in_time(steps, count).copy()
        for row, length in enumerate(np.minimum(steps, count).tolist()):
            found[row, :length] = found[row, :length][_middle_out(length)]
        return found

    plans._positions = positions
    try:
        return stopping_candidates(answers, fusion, costs, order)
    finally:
        plans._positions = in_time


def _middle_out(count: int) -> list[int]:
    """The order of FrameExit (Ghodrati et al., CVPR 2021): each next place is farthest from those before."""
    left = list(range(count))
    found = [left.pop((count - 1) // 2)]
    while left:
        found.append(max(left, key=lambda place: min(abs(place - other) for other in found)))
        left.remove(found[-1])
    return found


def _cross_entropies(answers: Answers, fusion: LookFusion, order: list[str]) -> tuple[float, float]:
    by_table, by_head = [], []
    folds = group_folds(answers.groups, _FOLDS)
    for plan in escalations(answers, order):
        course = follow(answers, fusion, plan)
        right = (course.scores.argmax(axis=-1) == answers.targets[:, None]).astype(np.float64)
        features, margin = _features(course.scores), margins(course.scores)
        for own, other in _parted(folds):
            head = _logistic(features[other].reshape(-1, features.shape[-1]), right[other].ravel())
            said = head(features[own].reshape(-1, features.shape[-1])).reshape(right[own].shape)
            by_head.append(_entropy(said, right[own]))
            for look in range(right.shape[1]):
                table = _table(margin[other][:, look], right[other][:, look])
                by_table.append(_entropy(table(margin[own][:, look]), right[own][:, look]))
    return float(np.mean(np.concatenate(by_table))), float(np.mean(np.concatenate(by_head)))


def _table(margin: Floats, right: Floats) -> Fitted:
    """How often answers of a margin are right: isotonic over equal bins, half a clip added to each side."""
    order = np.argsort(margin, kind="stable")
    bins = np.array_split(order, max(1, len(order) // _BIN))
    sizes = np.array([len(rows) for rows in bins])
    shares = -falling(-np.array([right[rows].mean() for rows in bins]), sizes)
    shares, edges = (shares * sizes + 0.5) / (sizes + 1), np.array([margin[rows[0]] for rows in bins])
    return lambda values: shares[np.clip(np.searchsorted(edges, values, side="right") - 1, 0, None)]


def _logistic(features: Floats, right: Floats) -> Fitted:
    center, scale = features.mean(axis=0), features.std(axis=0) + 1e-6
    inputs, targets = torch.from_numpy((features - center) / scale), torch.from_numpy(right)
    weights = torch.zeros(features.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=100)

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        logits = inputs @ weights[1:] + weights[0]
        found = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets)
        found = found + 0.005 * weights[1:].square().sum()
        found.backward()  # type: ignore[no-untyped-call]
        return found

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    fitted = weights.detach().numpy()
    return lambda values: 1 / (1 + np.exp(-((values - center) / scale @ fitted[1:] + fitted[0])))


def _entropy(said: Floats, right: Floats) -> Floats:
    said = np.clip(said, 1e-3, 1 - 1e-3)
    return np.asarray(-(right * np.log(said) + (1 - right) * np.log(1 - said))).ravel()


def _parted(folds: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    for fold in sorted(set(folds.tolist())):
        yield folds == fold, folds != fold


if __name__ == "__main__":
    main()
