"""Admission: what is better is let in, what is lucky is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compiler.operating_points.admission import group_draws, judge, simultaneous_lower_bounds
from compiler.operating_points.candidates import Candidate, schedule_candidates, stopping_candidates
from compiler.operating_points.fit_fusion import fit_fusion
from tests.compiler.operating_points.written_answers import COSTS, written_answers

ANSWERS = written_answers(3, clips=300, groups=60)
SCHEDULES = schedule_candidates(ANSWERS, fit_fusion(ANSWERS), COSTS)


def like(schedule: Candidate, gain: float, noise: float, seed: int, name: str) -> Candidate:
    """A policy of a schedule's cost whose true class is more probable by ``gain``, give or take."""
    draw = np.random.default_rng(seed)
    true = np.clip(schedule.true_probability + gain + noise * draw.normal(size=len(ANSWERS)), 0, 1)
    return replace(schedule, name=name, kind="learned", plan=None, true_probability=true, price=1.0)


def best_at(cost: float) -> Candidate:
    """The schedule of highest probability among those that cost no more."""
    within = [one for one in SCHEDULES if one.cost.mean() <= cost]
    return max(within, key=lambda one: float(one.true_probability.mean()))


def test_what_is_better_is_admitted() -> None:
    (how,) = judge([like(best_at(20.0), 0.08, 0.05, 0, "better")], SCHEDULES, ANSWERS.groups)
    assert how.reason == "better" and 0 < how.lower < how.difference < 0.08


def test_many_that_are_only_lucky_are_not() -> None:
    """Forty candidates that differ from a schedule by noise alone: no one is let in."""
    admitted = 0
    for trial in range(10):
        lucky = [like(best_at(20.0), 0.0, 0.2, 100 * trial + n, f"lucky {n}") for n in range(40)]
        admitted += any(how.reason for how in judge(lucky, SCHEDULES, ANSWERS.groups))
    assert admitted <= 1


def test_more_probable_but_more_often_wrong_is_not_admitted() -> None:
    better = like(best_at(20.0), 0.08, 0.05, 0, "odd")
    worse = replace(better, right=np.zeros(len(ANSWERS), np.bool_))
    (how,) = judge([worse], SCHEDULES, ANSWERS.groups)
    assert how.reason is None


def test_its_full_cost_counts() -> None:
    """The same answers at twice the cost are no better than what twice the cost buys."""
    same = like(best_at(9.0), 0.02, 0.0, 0, "expensive")
    (how,) = judge([replace(same, cost=same.cost * 3)], SCHEDULES, ANSWERS.groups)
    assert how.reason is None


def test_a_twin_that_stops_early_is_admitted_as_cheaper() -> None:
    found = stopping_candidates(ANSWERS, fit_fusion(ANSWERS), COSTS, ["middle", "big"])
    twins = [
        one for one, how in zip(found, judge(found, SCHEDULES, ANSWERS.groups), strict=True) if how.reason
    ]
    assert twins, "clips differ in how hard they are: stopping has to save something"
    for twin in twins:
        whole = (
            next(one for one in SCHEDULES if one.plan == twin.plan)
            if twin.plan in [one.plan for one in SCHEDULES]
            else None
        )
        assert whole is None or twin.cost.mean() < whole.cost.mean()


def test_bounds_hold_together() -> None:
    """Of many rows with mean 0 hardly ever any bound is above it: in 5 % of the cases, not of the rows."""
    groups = tuple(str(number) for number in range(60))
    draws = group_draws(groups, draws=500)
    draw = np.random.default_rng(0)
    wrong = sum((simultaneous_lower_bounds(draw.normal(size=(30, 60)), draws) > 0).any() for _ in range(100))
    assert wrong <= 15


def test_one_group_alone_admits_nothing() -> None:
    candidate = like(best_at(20.0), 0.3, 0.0, 0, "better")
    (how,) = judge([candidate], SCHEDULES, ("only",) * len(ANSWERS))
    assert how.reason is None


@pytest.mark.parametrize("count", [5, 8, 30])
def test_bounds_hold_for_few_groups_that_differ(count: int) -> None:
    """Groups have effects of their own: the bound of a mean of 0 is above it in one case of twenty."""
    groups = tuple(str(number % count) for number in range(60))
    draws, draw = group_draws(groups, draws=400), np.random.default_rng(0)
    rows = np.array([int(group) for group in groups])
    wrong = 0
    for _ in range(400):
        own = draw.normal(size=count)[rows] + draw.normal(size=60)
        wrong += bool(simultaneous_lower_bounds(own[None], draws)[0] > 0)
    assert wrong <= 36, "9 %, three standard deviations above the 5 % that it may be"


def test_few_groups_prove_nothing() -> None:
    """However much better: two cameras say nothing of a third."""
    better = like(best_at(20.0), 0.2, 0.01, 0, "better")
    groups = tuple(str(number % 4) for number in range(len(ANSWERS)))
    (how,) = judge([better], SCHEDULES, groups)
    assert how.reason is None and how.difference > 0.1
