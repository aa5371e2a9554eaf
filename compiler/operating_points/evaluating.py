"""What the points of a front come to on clips that they were not chosen on, beside schedules and controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import JsonValue

from compiler.operating_points.admission import group_draws
from compiler.operating_points.answers import Answers, Floats
from compiler.operating_points.candidates import Candidate, of_learned, of_scores, schedule_candidates
from compiler.operating_points.gathering import part_costs
from compiler.operating_points.plans import LookPlan, follow
from compiler.operating_points.stopping import stopped_after
from runtimes.spec import CostTable, OperatingFront, OperatingPoint
from sdk.decisions.points.hull import sharing

SHARES = (1.0, 0.5, 0.25, 0.1)
"""Of the dense cost, at which it is said what they buy."""
_GRID = 200
_ROUNDING = 1e-6
_NOTHING = 0.0005
"""A difference that no one would see: of less than a tenth of a percent."""


@dataclass(frozen=True)
class Evaluation:
    """A front on some clips, at costs in ``unit`` (mJ where all were measured, else ms).

    ``points``: those of the front, in order; ``schedules``: every schedule; ``dense``: the most expensive
    look at every step. ``oracle_stop``: dense, stopped when its answer is what it will be in the end;
    ``random_stop``: stopped at random, at the same mean cost. ``comparison``: see ``compare``.
    """

    front: OperatingFront
    unit: str
    points: tuple[Candidate, ...]
    schedules: tuple[Candidate, ...]
    dense: Candidate
    oracle_stop: Candidate
    random_stop: Candidate
    comparison: Comparison
    answers: Answers

    def to_json(self) -> dict[str, JsonValue]:
        """Every number, for the manifest."""
        shown = [*self.points, self.dense, self.oracle_stop, self.random_stop]
        rows: list[JsonValue] = [
            {
                "name": one.name,
                "accuracy": round(float(one.right.mean()), 5),
                "true_probability": round(float(one.true_probability.mean()), 5),
                "cost": round(float(one.cost.mean()), 5),
            }
            for one in shown
        ]
        return {
            "variant": self.front.variant,
            "clips": len(self.answers),
            "unit": self.unit,
            "verdict": self.comparison.word,
            "difference": [self.comparison.difference, self.comparison.low, self.comparison.high],
            "points": rows,
            "bought": {f"{share:g}": self._bought_at(share) for share in SHARES},
        }

    def _bought_at(self, share: float) -> JsonValue:
        bought = self.bought(share * float(self.dense.cost.mean()))
        return None if bought is None else round(bought.accuracy, 5)

    def bought(self, cost: float) -> Bought | None:
        """What a mean cost buys; None where every point costs more."""
        costs, right = _curve(self.points)
        if cost * (1 + 1e-9) < costs[0]:
            return None
        ranked = sorted(self.points, key=lambda one: float(one.cost.mean()))
        one, other, share = sharing(costs, range(len(costs)), cost)
        used = [place for place, weight in ((one, 1 - share), (other, share)) if weight > _ROUNDING]
        accuracy = (1 - share) * right[one].mean() + share * right[other].mean()
        return Bought(float(accuracy), tuple(ranked[place].name for place in used))


@dataclass(frozen=True)
class Bought:
    """What a mean cost buys: the accuracy of a point, or of two that take turns from clip to clip."""

    accuracy: float
    points: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """Mean accuracy of the front less that of schedules alone, over log cost, with its 95 % interval.

    Both were chosen on other clips, and both may share time between two neighboring points.
    """

    difference: float
    low: float
    high: float

    @property
    def word(self) -> str:
        """``ahead``, ``behind`` or ``level``."""
        return "ahead" if self.low > _NOTHING else "behind" if self.high < -_NOTHING else "level"


def evaluate_front(front: OperatingFront, answers: Answers, table: CostTable) -> Evaluation:
    """Run a front's points, and every schedule, over the answers of some clips.

    Raises: KeyError for a part without a cost.
    """
    ms, mj = part_costs(answers.parts, table)
    costs, unit = (ms, "ms") if mj is None else (mj, "mJ")
    schedules = schedule_candidates(answers, front.fusion, costs)
    by_name = {one.name: one for one in schedules}
    points = tuple(candidate_of(point, front, answers, costs) for point in front.points)
    dense = candidate_of(front.dense, front, answers, costs)
    oracle, random = _controls(front, answers, costs)
    rivals = [by_name[name] for name in front.schedules if name in by_name] or schedules[:1]
    comparison = compare(points, rivals, group_draws(answers.groups))
    return Evaluation(front, unit, points, tuple(schedules), dense, oracle, random, comparison, answers)


def candidate_of(point: OperatingPoint, front: OperatingFront, answers: Answers, costs: Floats) -> Candidate:
    """A point as it runs on these clips. Raises: LookupError for a policy's price that was not gathered."""
    if point.price is not None and not point.looks:
        own = next((one for one in answers.learned if one.price == point.price), None)
        if own is None:
            raise LookupError(f"nothing was gathered at price {point.price:g}")
        return of_learned(answers, own, costs, point.temperature)
    plan = LookPlan(point.looks)
    course = follow(answers, front.fusion, plan)
    rows = np.arange(len(answers))
    last = np.full(len(answers), course.scores.shape[1] - 1)
    left = last if point.stop is None else stopped_after(point.stop, course.scores)
    scores, runs = course.scores[rows, left], course.runs[rows, left]
    return of_scores(
        point.name,
        point.kind,
        answers,
        scores,
        runs,
        costs,
        plan=plan,
        rule=point.stop,
        temperature=point.temperature,
    )


def compare(points: Sequence[Candidate], rivals: Sequence[Candidate], draws: Floats) -> Comparison:
    """Both fronts, interpolated, from where both have begun; one that ends stays as it is from there on."""
    ours, theirs = _curve(points), _curve(rivals)
    low = max(ours[0].min(), theirs[0].min())
    high = max(ours[0].max(), theirs[0].max(), low * (1 + 1e-9))
    grid = np.geomspace(max(low, 1e-12), max(high, 1e-11), _GRID)
    difference = _weights(ours[0], grid) @ ours[1] - _weights(theirs[0], grid) @ theirs[1]
    drawn = draws @ difference
    low_bound, high_bound = np.quantile(drawn, (0.025, 0.975))
    return Comparison(float(difference.mean()), float(low_bound), float(high_bound))


def _curve(points: Sequence[Candidate]) -> tuple[Floats, Floats]:
    """Mean costs (points,), rising, and who was right (points, clips)."""
    ranked = sorted(points, key=lambda one: float(one.cost.mean()))
    costs = np.array([one.cost.mean() for one in ranked])
    return costs, np.stack([one.right.astype(np.float64) for one in ranked])


def _weights(costs: Floats, grid: Floats) -> Floats:
    """How much each point counts (points,) on average over the grid, where neighbors share time."""
    weights = np.zeros(len(costs))
    for cost in grid:
        after = int(np.searchsorted(costs, cost))
        if after == 0 or after == len(costs):
            weights[min(after, len(costs) - 1)] += 1
            continue
        share = (cost - costs[after - 1]) / (costs[after] - costs[after - 1])
        weights[after - 1] += 1 - share
        weights[after] += share
    return weights / len(grid)


def _controls(front: OperatingFront, answers: Answers, costs: Floats) -> tuple[Candidate, Candidate]:
    """Dense stopped by an oracle, and at random at the same mean cost."""
    plan = LookPlan(front.dense.looks)
    course = follow(answers, front.fusion, plan)
    best = course.scores.argmax(axis=-1)
    settled = (best == best[:, -1:]).argmax(axis=1)
    rows = np.arange(len(answers))
    shuffled = settled[np.random.default_rng(0).permutation(len(settled))]
    name = front.dense.name
    return tuple(  # type: ignore[return-value]
        of_scores(
            f"{name}, {how} stop",
            "stopping",
            answers,
            course.scores[rows, left],
            course.runs[rows, left],
            costs,
            plan=plan,
        )
        for how, left in (("oracle", settled), ("random", shuffled))
    )
