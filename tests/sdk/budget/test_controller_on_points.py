"""The budget controller along operating points, on simulated devices: calm, used, and never above."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdk.budget.budget import Budget
from sdk.power.simulated import Probe, SimulatedDevice
from tests.sdk.budget_trials import PROBES, Trial
from tests.sdk.budgeted_streams import Stream, action_space, constant, schedules, stream

SCORES = constant(*[0.0] * 9)
SPACE = action_space(3)
LOOKS = (("b2", 1), ("b2", 4), ("b1", 8), ("b0", 8), ("b0", 16))
RUN_J = {"policy": 0.01, "b0": 0.5, "b1": 0.2, "b2": 0.08}
TABLE = [10, 500, 200, 80, 0, 0, 0, 0]


TRIALS = st.builds(
    Trial,
    branches=st.integers(2, 5),
    rate_hz=st.sampled_from([2.0, 4.0, 10.0]),
    idle_w=st.floats(0.5, 5.0),
    dense_share=st.floats(0.5, 3.0),
    budgets=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    load=st.one_of(st.just(0.0), st.floats(0, 0.4)),
    probe=PROBES,
    known=st.booleans(),
    seed=st.integers(0, 2**16),
)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(TRIALS)
def test_no_half_minute_is_above_the_budget(trial: Trial) -> None:
    """From the first second on: costs are off, the meter is noisy and late, a load comes and goes."""
    result = trial.run()
    for since_s, until_s, allowed_w, _ in trial.spans():
        assert result.worst_w(since_s, until_s) <= 1.05 * allowed_w


def device(**fields: object) -> SimulatedDevice:
    """One watt idle; dense, it draws 3 W at four steps a second."""
    return SimulatedDevice(**({"idle_w": 1.0, "run_j": RUN_J} | fields))  # type: ignore[arg-type]


def along(simulated: SimulatedDevice, *budgets: tuple[float, Budget | None], **how: object) -> Stream:
    settled = {"rate_hz": 4.0, "known": True, "front": schedules(SPACE, LOOKS), "seconds": 200.0} | how
    return stream(simulated, SPACE, TABLE, SCORES, budgets, **settled)  # type: ignore[arg-type]


def changes(result: Stream, since_s: float, until_s: float) -> int:
    ways = [step.way for step in result.between(since_s, until_s)]
    return sum(one != other for one, other in pairwise(ways))


@pytest.mark.parametrize("allowed_w", [1.1, 1.3, 1.6, 1.9, 2.3, 2.8])
@pytest.mark.parametrize("probe", [Probe(), Probe(noise=0.03, delay_s=0.3)], ids=["exact", "noisy"])
def test_a_budget_is_used_and_the_point_changes_few_times_a_minute(allowed_w: float, probe: Probe) -> None:
    """Constant budget and load, between any two points."""
    result = along(device(probe=probe), (0.0, Budget(watts=allowed_w)))
    assert 0.95 * allowed_w <= result.mean_w(35, 200) <= 1.01 * allowed_w
    assert result.worst_w(0, 200) <= 1.05 * allowed_w
    assert changes(result, 35, 200) <= 5 * 165 / 60
    assert all(step.state is not None and step.state.met for step in result.between(10, 200))


@pytest.mark.parametrize(("before_w", "after_w"), [(1.3, 2.5), (2.5, 1.3), (1.6, 1.9)])
def test_another_budget_is_reached_within_five_seconds(before_w: float, after_w: float) -> None:
    result = along(device(), (0.0, Budget(watts=before_w)), (100.0, Budget(watts=after_w)))
    assert result.mean_w(100, 105.1) == pytest.approx(after_w, rel=0.12)
    assert result.worst_w(100, 200) <= 1.05 * after_w
    assert all(step.state is not None and step.state.met is not False for step in result.between(100, 200))


def test_what_nothing_limits_runs_the_best_point() -> None:
    result = along(device(), (0.0, Budget(watts=50.0)))
    assert {step.way for step in result.between(5, 200)} == {"b0 x 16"}


def test_points_that_take_too_long_are_not_run() -> None:
    """A limit of time alone leaves the app's own point, if that keeps to it; with watts, the best one."""
    times = {"b0": 0.06, "b1": 0.02, "b2": 0.01}
    slow = along(device(run_s=times), (0.0, Budget(latency_ms=40)), front=schedules(SPACE, LOOKS, default=4))
    assert {step.way for step in slow.between(10, 60)} == {"b1 x 8"}
    both = along(device(run_s=times), (0.0, Budget(watts=50.0, latency_ms=40)))
    assert {step.way for step in both.between(10, 60)} == {"b1 x 8"}
    wide = along(device(run_s=times), (0.0, Budget(latency_ms=400)))
    assert {step.way for step in wide.steps} == {"b2 x 1"}


def test_without_a_budget_the_standing_point_runs() -> None:
    result = along(device(), (0.0, Budget(watts=1.3)), (50.0, None))
    assert {step.way for step in result.between(51, 200)} == {"b2 x 1"}
    assert {step.state for step in result.between(51, 200)} == {None}


def test_the_reserve_puts_the_cheapest_point_in() -> None:
    """A load begins in the upper part of a cycle: what was saved for that is not there any more."""
    loaded = device(loads=((95.0, 0.35),))
    result = along(loaded, (0.0, Budget(watts=1.6)))
    assert result.worst_w(30, 200) <= 1.05 * 1.6
    assert result.mean_w(140, 200) >= 0.95 * 1.6
