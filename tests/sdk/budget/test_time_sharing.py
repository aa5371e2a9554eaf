"""Sharing time between two ways to run: their average, any half minute, and how often they change."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdk.budget.power_level import PowerLevel
from sdk.budget.time_sharing import TimeSharing

STEP_S = 0.25


def levels(*powers_w: float) -> list[PowerLevel]:
    return [PowerLevel(power_w, 0.0, f"{place}") for place, power_w in enumerate(powers_w)]


class Run:
    """What runs over time under a limit, where each way really takes ``true_w``."""

    def __init__(self, offered: list[PowerLevel], true_w: list[float]) -> None:
        self.offered, self.true_w = offered, true_w
        self.sharing, self.now_s = TimeSharing(), 0.0
        self.used_w: list[float] = []
        self.points: list[str] = []

    def go(self, watts: float, seconds: float) -> None:
        for step in range(int(seconds / STEP_S)):
            if step % 4 == 0:
                self.sharing.move(self.now_s, watts, self.offered)
            level = self.sharing.level_at(self.now_s)
            assert level is not None and level.point is not None
            self.points.append(level.point)
            self.used_w.append(self.true_w[int(level.point)])
            self.now_s += STEP_S
            self.sharing.record_use(watts * STEP_S, self.used_w[-1] * STEP_S)

    def worst_w(self, since_s: float = 0.0) -> float:
        total = np.concatenate([[0.0], np.cumsum(self.used_w[int(since_s / STEP_S) :])])
        window = int(30 / STEP_S)
        return float((total[window:] - total[:-window]).max()) / window

    def changes(self, since_s: float) -> int:
        return sum(one != other for one, other in pairwise(self.points[int(since_s / STEP_S) :]))


@settings(max_examples=200, deadline=None)
@given(
    powers=st.lists(st.floats(1.0, 10.0), min_size=2, max_size=6, unique=True).map(sorted),
    share=st.floats(0.0, 1.0),
)
def test_the_average_is_the_limit_and_no_half_minute_is_above(powers: list[float], share: float) -> None:
    watts = powers[0] / 0.98 + share * (powers[-1] - powers[0])
    run = Run(levels(*powers), powers)
    run.go(watts, 150)
    assert run.worst_w() <= 1.02 * watts
    assert run.changes(30) <= 2 * 120 / 30
    gap_w = max((other - one for one, other in pairwise(powers)), default=0.0)
    if powers[-1] > watts:  # a way that would run for less than a second is left out
        assert np.mean(run.used_w[int(30 / STEP_S) :]) >= 0.95 * watts - gap_w / 30


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(2.0, 9.0), min_size=2, max_size=5))
def test_budgets_that_change_keep_every_half_minute_under_the_largest_in_it(budgets: list[float]) -> None:
    run = Run(levels(1.0, 3.0, 10.0), [1.0, 3.0, 10.0])
    for watts in budgets:
        run.sharing.restart()
        run.go(watts, 40)
    assert run.worst_w() <= 1.03 * max(budgets)


@pytest.mark.parametrize(("before_w", "after_w"), [(2.0, 6.0), (6.0, 2.0)])
def test_another_limit_is_reached_within_five_seconds(before_w: float, after_w: float) -> None:
    run = Run(levels(1.0, 3.0, 10.0), [1.0, 3.0, 10.0])
    run.go(before_w, 70)
    run.sharing.restart()
    run.go(after_w, 5)
    assert np.mean(run.used_w[-20:]) == pytest.approx(0.985 * after_w, rel=0.06)


@pytest.mark.parametrize("off", [0.8, 0.9, 1.1, 1.25])
def test_what_takes_more_or_less_than_was_thought_still_averages_the_limit(off: float) -> None:
    run = Run(levels(1.0, 4.0), [1.0, 4.0 * off])
    run.go(2.5, 210)
    assert run.worst_w(30) <= 1.03 * 2.5
    assert np.mean(run.used_w[-int(60 / STEP_S) :]) >= 0.95 * 2.5


def test_the_lower_way_runs_first() -> None:
    run = Run(levels(1.0, 3.0), [1.0, 3.0])
    run.go(2.0, 5)
    first, last = run.points[:9], run.points[-9:]
    assert set(first) == {"0"} and set(last) == {"1"}


def test_what_fits_alone_shares_nothing() -> None:
    run = Run(levels(1.0, 1.96, 10.0), [1.0, 1.96, 10.0])
    run.go(2.0, 60)
    assert set(run.points) == {"1"}


def test_nothing_keeps_to_the_limit_so_the_least_runs() -> None:
    run = Run(levels(3.0, 5.0), [3.0, 5.0])
    run.go(2.0, 30)
    assert set(run.points) == {"0"}


def test_before_the_first_move_nothing_runs() -> None:
    assert TimeSharing().level_at(0.0) is None and TimeSharing().swing_j == 0
