"""From out-of-fold answers and costs to the front that a bundle offers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compiler.operating_points.admission import Admission, group_draws, judge
from compiler.operating_points.answers import Answers, Floats
from compiler.operating_points.candidates import (
    Candidate,
    learned_candidates,
    schedule_candidates,
    stopping_candidates,
)
from compiler.operating_points.fit_fusion import fit_fusion
from compiler.operating_points.front import means, optimism
from compiler.operating_points.gathering import part_costs
from compiler.operating_points.streams.fit_memory import fit_memory
from runtimes.spec import CostTable, Interval, OperatingFront, OperatingPoint
from sdk.decisions.points.hull import hull

_MOST_ESCALATING = 5
"""Looks that plans with a stop rule are made of, at most: of many modalities the best at their cost."""
_GIVEN_UP, _PROBABILITY_GIVEN_UP = 0.005, 0.02
"""Accuracy, and probability of the true class, that the default point may lack of the best."""
_SETTLED = 0.95


@dataclass(frozen=True)
class Judged:
    """A front, and all that was judged for it: candidates by kind, and how each that is no schedule did."""

    front: OperatingFront
    schedules: tuple[Candidate, ...]
    others: tuple[Candidate, ...]
    admissions: tuple[Admission, ...]
    groups: tuple[str, ...]


def choose_front(
    variant: str, answers: Answers, table: CostTable, judged_on: str, clip_steps: int | None = None
) -> Judged:
    """The schedules' hull with what was admitted beside them.

    ``clip_steps``: of the longest clip there is, where ``answers`` may lack it. Raises: KeyError for a part
    without a cost.
    """
    ms, mj = part_costs(answers.parts, table)
    costs = ms if mj is None else mj
    fusion = fit_fusion(answers)
    schedules = schedule_candidates(answers, fusion, costs)
    order = _escalation_order(answers, schedules, costs)
    others = [*stopping_candidates(answers, fusion, costs, order), *learned_candidates(answers, costs)]
    admissions = judge(others, schedules, answers.groups)
    admitted = [one for one, how in zip(others, admissions, strict=True) if how.reason]
    offered = [*schedules, *admitted]
    chosen = [offered[place] for place in hull(*means(offered))]
    draws = group_draws(answers.groups)
    longest = answers.clip_steps if clip_steps is None else clip_steps
    reasons = {one.name: how.reason for one, how in zip(others, admissions, strict=True)}

    def point(one: Candidate) -> OperatingPoint:
        runs = one.runs.mean(axis=0)
        return OperatingPoint(
            name=one.name,
            kind=one.kind,
            looks=one.plan.looks if one.plan else (),
            stop=one.rule,
            memory_steps=None
            if one.kind != "schedule" or one.plan is None
            else fit_memory(answers, fusion, one.plan, longest),
            price=one.price,
            temperature=one.temperature,
            runs={part: float(count) for part, count in zip(answers.parts, runs, strict=True) if count},
            accuracy=_interval(one.right.astype(np.float64), draws),
            true_probability=_interval(one.true_probability, draws),
            ms=float(runs @ ms),
            mj=None if mj is None else float(runs @ mj),
            admitted_as=reasons.get(one.name),
        )

    front = OperatingFront(
        variant=variant,
        fusion=fusion,
        points=tuple(point(one) for one in chosen),
        default=_default(chosen).name,
        dense=point(_dense(answers, schedules)),
        schedules=tuple(schedules[place].name for place in hull(*means(schedules))),
        judged_on=judged_on,
        optimism=optimism(schedules, answers.groups),
    )
    return Judged(front, tuple(schedules), tuple(others), tuple(admissions), answers.groups)


def _interval(values: Floats, draws: Floats) -> Interval:
    low, high = np.quantile(draws @ values, ((1 - _SETTLED) / 2, (1 + _SETTLED) / 2))
    return Interval(mean=float(values.mean()), low=float(low), high=float(high))


def _dense(answers: Answers, schedules: Sequence[Candidate]) -> Candidate:
    """The most expensive look of branches at every step: what a model that is not adaptive would run."""
    without_policy = {
        look
        for look, runs in zip(answers.looks, answers.look_runs, strict=True)
        if not answers.learned or not runs[0]  # the first part is the policy, where there is one
    }
    branches = [one for one in schedules if one.plan and set(one.plan.looks) <= without_policy]
    return max(
        branches or schedules,
        key=lambda one: (float(one.cost.mean()), len(one.plan.looks) if one.plan else 0),
    )


def _default(chosen: Sequence[Candidate]) -> Candidate:
    """The cheapest point that gives up next to nothing of the best."""
    best = max(float(one.right.mean()) for one in chosen)
    surest = max(float(one.true_probability.mean()) for one in chosen)
    settled = (
        one
        for one in chosen
        if one.right.mean() >= best - _GIVEN_UP
        and one.true_probability.mean() >= surest - _PROBABILITY_GIVEN_UP
    )
    return next(settled, chosen[-1])


def _escalation_order(answers: Answers, schedules: Sequence[Candidate], costs: Floats) -> list[str]:
    """The looks that plans with a stop rule take: those of the schedules' hull first, the cheapest first."""
    values = {look: float(answers.look_runs[place] @ costs) for place, look in enumerate(answers.looks)}
    on_hull = [schedules[place] for place in hull(*means(schedules))]
    names = dict.fromkeys(one.plan.looks[0] for one in on_hull if one.plan)
    dense = max(values, key=lambda look: values[look])
    names.setdefault(dense)
    kept = list(names)[-_MOST_ESCALATING:]
    return sorted(kept, key=lambda look: values[look])
