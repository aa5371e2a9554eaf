"""The budget controller along operating points, on simulated devices: calm, used, and never above."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtimes.spec import OperatingFront
from sdk.budget.budget import Budget
from sdk.power.simulated import Probe, SimulatedDevice
from tests.sdk.budgeted_streams import Stream, action_space, constant, schedules, stream

CLIP_STEPS = 16
SCORES = constant(*[0.0] * 9)
SPACE = action_space(3)
LOOKS = (("b2", 1), ("b2", 4), ("b1", 8), ("b0", 8), ("b0", 16))
RUN_J = {"policy": 0.01, "b0": 0.5, "b1": 0.2, "b2": 0.08}
TABLE = [10, 500, 200, 80, 0, 0, 0, 0]


@dataclass(frozen=True)
class Trial:
    """A random device, whose costs the table does not quite know, and budgets between its points' powers."""

    branches: int
    rate_hz: float
    idle_w: float
    dense_share: float
    budgets: tuple[float, float]
    load: float
    probe: Probe
    known: bool
    seed: int

    def __post_init__(self) -> None:
        random = np.random.default_rng(self.seed)
        relative = np.sort(random.uniform(0.1, 1, self.branches))[::-1]
        table = np.concatenate([[0.1 * relative[-1]], relative])
        scale = self.dense_share * self.idle_w / self.rate_hz
        true = scale * table * np.exp(random.normal(0, 0.25, len(table)))
        names = ["policy", *(f"b{i}" for i in range(self.branches))]
        object.__setattr__(self, "table", np.append(table * (1e3 * scale if self.known else 1.0), [0.0] * 4))
        object.__setattr__(self, "run_j", dict(zip(names, true.tolist(), strict=True)))
        looks = [(f"b{i}", count) for i in range(self.branches) for count in (1, 2, 4, 8, 16)]
        picked = random.choice(len(looks), int(random.integers(2, 8)), replace=False)
        chosen = {looks[place] for place in picked} | {("b0", 16)}
        object.__setattr__(
            self, "looks", sorted(chosen, key=lambda look: look[1] * relative[int(look[0][1:])])
        )

    @property
    def front(self) -> OperatingFront:
        return schedules(action_space(self.branches), self.looks)  # type: ignore[attr-defined]

    @property
    def powers_w(self) -> list[float]:
        """What each look's schedule truly draws."""
        run_j, looks = self.run_j, self.looks  # type: ignore[attr-defined]
        return [self.idle_w + run_j[name] * count / CLIP_STEPS * self.rate_hz for name, count in looks]

    def budget_w(self, place: int) -> float:
        low, high = 1.03 * min(self.powers_w), 1.1 * max(self.powers_w)
        return low + self.budgets[place] * (high - low)

    def run(self) -> Stream:
        """Ninety seconds, ninety with a load, sixty without, and ninety under the other budget."""
        loads = ((90.0, self.load * self.idle_w), (180.0, 0.0))
        device = SimulatedDevice(self.idle_w, self.run_j, loads=loads, probe=self.probe, seed=self.seed)  # type: ignore[attr-defined]
        budgets = [(0.0, Budget(watts=self.budget_w(0))), (240.0, Budget(watts=self.budget_w(1)))]
        rate, table = self.rate_hz, self.table.tolist()  # type: ignore[attr-defined]
        space, scores = action_space(self.branches), constant(*[0.0] * (self.branches + 4))
        how = {"rate_hz": rate, "known": self.known, "front": self.front, "clip_steps": CLIP_STEPS}
        return stream(device, space, table, scores, budgets, seconds=330, **how)  # type: ignore[arg-type]

    def spans(self) -> list[tuple[float, float, float, float]]:
        """(from, to, watts, load in W) wherever the cheapest point keeps to the budget."""
        load_w = self.load * self.idle_w
        spans = ((0, 90, 0, 0.0), (90, 180, 0, load_w), (180, 240, 0, 0.0), (240, 330, 1, 0.0))
        return [
            (since, until, self.budget_w(place), other_w)
            for since, until, place, other_w in spans
            if min(self.powers_w) + other_w < 0.99 * self.budget_w(place)
        ]


TRIALS = st.builds(
    Trial,
    branches=st.integers(2, 5),
    rate_hz=st.sampled_from([2.0, 4.0, 10.0]),
    idle_w=st.floats(0.5, 5.0),
    dense_share=st.floats(0.5, 3.0),
    budgets=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    load=st.one_of(st.just(0.0), st.floats(0, 0.4)),
    probe=st.builds(
        Probe,
        noise=st.floats(0, 0.05),
        grain_j=st.sampled_from([0.0, 0.001, 0.05]),
        delay_s=st.floats(0, 0.5),
    ),
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
