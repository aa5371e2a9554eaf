"""The account: whatever is drawn on it in runs that it lets through, no 30 s end above its limit."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdk.budget.energy_reserve import DEPTH_S, WINDOW_S, EnergyReserve

WATTS = 2.0
STEP_S = 0.25


def account(cheapest_w: float | None = None) -> EnergyReserve:
    made = EnergyReserve()
    made.set_limit(WATTS, cheapest_w)
    return made


def spend(made: EnergyReserve, used_w: float, since_s: float, until_s: float) -> None:
    """So much power for so long, a step at a time."""
    for now_s in np.arange(since_s, until_s, STEP_S):
        made.record_use(float(now_s), WATTS * STEP_S, used_w * STEP_S)


@settings(max_examples=60, deadline=None)
@given(
    wishes=st.lists(st.floats(0, 4), min_size=300, max_size=300),
    base_w=st.floats(0, WATTS),
    idle=st.integers(0, 200),
    at_once=st.booleans(),
)
def test_no_half_minute_is_above_the_limit(
    wishes: list[float], base_w: float, idle: int, at_once: bool
) -> None:
    """The device idles, step by step or between two streams; then runs of any size (J) are wished.

    At each step one, which is made if there is room.
    """
    made = account(base_w)
    base_j = base_w * STEP_S
    used_j = [base_j] * idle
    made.record_use(0.0, 0.0, 0.0)
    for step in [idle] if at_once else range(1, idle + 1):
        steps = idle if at_once else 1
        made.record_use(step * STEP_S, steps * WATTS * STEP_S, steps * base_j)
    for step, wish_j in enumerate(wishes, start=idle + 1):
        run_j = wish_j if wish_j <= made.left_j else 0.0
        made.record_use(step * STEP_S, WATTS * STEP_S, base_j + run_j)
        used_j.append(base_j + run_j)
    total_j = np.concatenate([[0.0], np.cumsum(used_j)])
    window = int(WINDOW_S / STEP_S)
    worst_j = (total_j[window:] - total_j[:-window]).max()
    assert worst_j <= WATTS * (WINDOW_S + DEPTH_S) + base_j


def test_what_is_not_used_may_be_used_later_for_half_a_minute() -> None:
    made = account(cheapest_w=0.5)
    at_first_j = made.left_j
    spend(made, 0.5, 0, 10)
    saved_j = made.left_j
    assert at_first_j == pytest.approx(WATTS * DEPTH_S) and saved_j == pytest.approx(2 * WATTS)
    spend(made, WATTS, 10, 45)
    assert made.left_j == pytest.approx(WATTS * DEPTH_S)


def test_without_knowing_what_the_cheapest_takes_nothing_is_counted_on() -> None:
    """What was saved is gone from the last 30 s before what it is spent on is."""
    made = account(cheapest_w=None)
    spend(made, 0.5, 0, 10)
    one_step_j = (WATTS - 0.5) * STEP_S
    assert made.left_j <= WATTS * DEPTH_S + one_step_j


def test_debt_is_forgiven_beyond_one_depth() -> None:
    made = account(cheapest_w=0.5)
    spend(made, 5 * WATTS, 0, 60)
    assert made.left_j == pytest.approx(-WATTS * DEPTH_S) and made.share == -1
    spend(made, 0.5, 60, 63)
    assert made.left_j > 0


def test_a_new_allowance_keeps_it_as_full_as_it_was() -> None:
    made = account()
    spend(made, 1.5 * WATTS, 0, 1)
    before = made.share
    made.set_limit(2 * WATTS)
    assert made.left_j == pytest.approx(2 * WATTS * DEPTH_S * before, rel=0.5)


def test_time_that_stands_still_or_goes_back_changes_nothing() -> None:
    made = account(cheapest_w=0.5)
    lefts = []
    for now_s in (1.0, 1.0, 0.5, 1.1):
        made.record_use(now_s, 0.1, 0.1)
        lefts.append(made.left_j)
    assert all(one == pytest.approx(other) for one, other in pairwise(lefts))


def test_empty_is_full_before_anything_is_allowed() -> None:
    assert EnergyReserve().share == 1 and EnergyReserve().left_j == 0


def test_after_a_pause_half_a_minute_is_no_more_than_any_other() -> None:
    """Not even for who takes all there is at every step."""
    made = account(cheapest_w=0.0)
    made.record_use(0.0, 0.0, 0.0)
    made.record_use(60.0, 60 * WATTS, 0.0)
    used_j = 0.0
    for step in range(1, int(WINDOW_S / STEP_S) + 1):
        run_j = max(made.left_j, 0.0)
        made.record_use(60.0 + step * STEP_S, WATTS * STEP_S, run_j)
        used_j += run_j
    assert used_j <= WATTS * (WINDOW_S + DEPTH_S)
