"""The budget controller on simulated devices: what it promises, whatever the device and the budget."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sdk.budget.budget import Budget
from sdk.budget.power_limit import Readings
from sdk.power.simulated import Body, Probe, SimulatedDevice
from tests.sdk.budget_trials import PROBES
from tests.sdk.budgeted_streams import Scores, Stream, action_space, constant, stream

SPACE = action_space(3)
TABLE = [0.5, 8, 4, 2, 0, 0, 0, 0]
RUN_J = {"policy": 0.01, "b0": 0.5, "b1": 0.2, "b2": 0.08}
"""Other ratios than the table's, and a scale that it does not know."""
SCORES = constant(3, 2.6, 2.0, 1.0, 0.2, 0.1, 0.05)
SETTLED_S = 10.0


def device(**fields: object) -> SimulatedDevice:
    """One watt idle; dense, it draws 6.1 W at ten steps a second."""
    return SimulatedDevice(**({"idle_w": 1.0, "run_j": RUN_J} | fields))  # type: ignore[arg-type]


def watts(budget: float) -> list[tuple[float, Budget | None]]:
    return [(0.0, Budget(watts=budget))]


@dataclass(frozen=True)
class Trial:
    """A random device under two budgets, one after the other; under the first a load comes and goes.

    The policy ``responds`` to the price that it is told, about as is ``expected`` (1: just so).
    """

    branches: int
    rate_hz: float
    idle_w: float
    dense_share: float
    budgets: tuple[float, float]
    load: float
    probe: Probe
    seed: int
    responds: float
    expected: float

    @property
    def table(self) -> NDArray[np.float64]:
        """Relative costs as the bundle has them: of the policy, the branches, the head and the skips."""
        random = np.random.default_rng(self.seed)
        relative = np.sort(random.uniform(0.1, 1, self.branches))[::-1]
        policy = random.uniform(0.02, 0.3) * relative[-1]
        return np.concatenate([[policy], relative, np.zeros(4)])

    @property
    def run_j(self) -> dict[str, float]:
        """What a run truly takes: every cost off by a factor of its own, and all by one."""
        random = np.random.default_rng(self.seed + 1)
        true = self.table[: 1 + self.branches] * np.exp(random.normal(0, 0.25, 1 + self.branches))
        scale = self.dense_share * self.idle_w / self.rate_hz
        names = ["policy", *(f"b{i}" for i in range(self.branches))]
        return dict(zip(names, (scale * true).tolist(), strict=True))

    @property
    def cheapest_w(self) -> float:
        """With the policy's longest skip at every decision."""
        return self.idle_w + self.run_j["policy"] * self.rate_hz / 4

    @property
    def dense_w(self) -> float:
        """With the most expensive branch at every step."""
        most_expensive = max(joules for name, joules in self.run_j.items() if name != "policy")
        return self.idle_w + (self.run_j["policy"] + most_expensive) * self.rate_hz

    def budget_w(self, place: int) -> float:
        """From a little above the cheapest to a little above the most expensive way to run."""
        low, high = 1.03 * self.cheapest_w, 1.1 * self.dense_w
        return low + self.budgets[place] * (high - low)

    def run(self, scores: Scores) -> Stream:
        load_w = self.load * self.idle_w
        simulated = SimulatedDevice(
            self.idle_w,
            self.run_j,
            loads=((60.0, load_w), (120.0, 0.0)),
            probe=self.probe,
            seed=self.seed,
        )
        budgets = [(0.0, Budget(watts=self.budget_w(0))), (160.0, Budget(watts=self.budget_w(1)))]
        space = action_space(self.branches)
        rate = self.rate_hz
        told = {"responds": self.responds, "expected": self.responds * self.expected}
        return stream(
            simulated, space, self.table.tolist(), scores, budgets, rate_hz=rate, seconds=220, **told
        )

    def feasible_spans(self) -> list[tuple[float, float, float]]:
        """(from, to, watts): settled times in which the budget can be kept."""
        load_w = self.load * self.idle_w
        spans = ((0, 60, 0, 0.0), (60, 120, 0, load_w), (120, 160, 0, 0.0), (160, 220, 1, 0.0))
        return [
            (since + SETTLED_S, until, self.budget_w(place))
            for since, until, place, other_w in spans
            if self.cheapest_w + other_w < 0.99 * self.budget_w(place) and until - since > 40
        ]


TRIALS = st.builds(
    Trial,
    branches=st.integers(2, 5),
    rate_hz=st.sampled_from([2.0, 4.0, 10.0]),
    idle_w=st.floats(0.5, 5.0),
    dense_share=st.floats(0.5, 3.0),
    budgets=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    load=st.one_of(st.just(0.0), st.floats(0, 0.4)),
    probe=PROBES,
    seed=st.integers(0, 2**16),
    responds=st.sampled_from([0.0, 1.0, 3.0]),
    expected=st.floats(0.6, 1.5),
)


def base_scores(trial: Trial) -> NDArray[np.float64]:
    random = np.random.default_rng(trial.seed + 2)
    branches = np.sort(random.uniform(0.5, 4, trial.branches))[::-1]
    return np.concatenate([branches, [random.uniform(0, 1), 0.2, 0.1, 0.05]])


@settings(max_examples=10, deadline=None, derandomize=True)
@given(TRIALS, st.sampled_from([1, 30]))
def test_no_half_minute_is_above_the_budget(trial: Trial, same_for: int) -> None:
    """Once settled, whenever the budget can be kept: 5 % is the limit. Content changes at random."""

    def scores(step: int) -> NDArray[np.float64]:
        random = np.random.default_rng((trial.seed, step // same_for))
        return base_scores(trial) + random.normal(0, 1.0, trial.branches + 4)

    result = trial.run(scores)
    for since_s, until_s, allowed_w in trial.feasible_spans():
        assert result.worst_w(since_s, until_s) <= 1.05 * allowed_w


@settings(max_examples=10, deadline=None, derandomize=True)
@given(TRIALS)
@example(
    Trial(
        branches=5,
        rate_hz=2.0,
        idle_w=1.0,
        dense_share=2.0,
        budgets=(0.1875, 0.0),
        load=0.375,
        probe=Probe(),
        seed=476,
        responds=1.0,
        expected=1.5,
    )
)
def test_at_constant_input_the_option_does_not_flap(trial: Trial) -> None:
    """It changes every few seconds at most, while what the policy answers to a price is learned."""
    result = trial.run(constant(*base_scores(trial)))
    for since_s, until_s, allowed_w in trial.feasible_spans():
        assert result.worst_w(since_s, until_s) <= 1.05 * allowed_w
        chosen = result.options(since_s + SETTLED_S, until_s)
        minutes = (until_s - since_s - SETTLED_S) / 60
        assert sum(one != other for one, other in pairwise(chosen)) <= 20 * minutes


@settings(max_examples=8, deadline=None, derandomize=True)
@given(TRIALS)
def test_never_worse_than_the_cheapest_choice(trial: Trial) -> None:
    """Wherever always the cheapest would keep to the budget, what was chosen scores at least as much."""
    base = base_scores(trial)

    def scores(step: int) -> NDArray[np.float64]:
        random = np.random.default_rng((trial.seed, step // 20))
        return base + random.normal(0, 0.5, len(base))

    result = trial.run(scores)
    rate = trial.rate_hz
    for since_s, until_s, allowed_w in trial.feasible_spans():
        if trial.cheapest_w + trial.load * trial.idle_w > 0.9 * allowed_w:
            continue
        chosen = sum(step.value for step in result.between(since_s, until_s))
        cheapest = sum(scores(step)[-1] for step in range(int(since_s * rate), int(until_s * rate), 4))
        assert chosen >= cheapest


@pytest.mark.parametrize("load_w", [1.0, 2.0])
def test_settles_after_a_load_and_after_a_new_budget(load_w: float) -> None:
    """Within ten seconds the power is what it was, and the budget is met again."""
    loaded = device(loads=((40.0, load_w), (80.0, 0.0)), probe=Probe(noise=0.02, delay_s=0.2))
    result = stream(loaded, SPACE, TABLE, SCORES, [*watts(4.0), (120.0, Budget(watts=2.0))], seconds=160)
    for since_s, allowed_w in ((0, 4.0), (40, 4.0), (80, 4.0), (120, 2.0)):
        settled = result.between(since_s + SETTLED_S, since_s + 40)
        assert result.mean_w(since_s + SETTLED_S, since_s + 40) <= 1.05 * allowed_w
        assert all(step.state is not None and step.state.met for step in settled[10:])
        assert not any(step.throttled for step in settled)


@pytest.mark.parametrize("restarts_s", [1.0, 2.5, 7.0])
@pytest.mark.parametrize("allowed_w", [1.6, 3.0])
def test_many_short_streams_keep_to_the_budget_too(restarts_s: float, allowed_w: float) -> None:
    """Each begins with a branch that has to run; that is counted as any other."""
    result = stream(device(), SPACE, TABLE, SCORES, watts(allowed_w), restarts_s=restarts_s)
    assert result.worst_w(SETTLED_S, 120.0) <= 1.05 * allowed_w


def test_what_is_used_and_allowed_between_two_streams_counts() -> None:
    """Who used more than is allowed meanwhile begins with a deficit."""
    left_j = []
    for used_w in (1.0, 3.0):
        used = device()
        controller = stream(used, SPACE, TABLE, SCORES, watts(2.0), seconds=20.3).controller
        controller.begin_stream(used.now_s + 20.0, used.used_j + 20.0 * used_w)
        left_j.append(controller._reserve.left_j)
    assert left_j[0] > 2.0 and left_j[1] < 0


def test_the_budget_is_used() -> None:
    """Content that changes slowly: 93 % of it and more, wherever the policy wants as much."""

    def scores(step: int) -> NDArray[np.float64]:
        noise = np.random.default_rng(step).normal(0, 1.0, 7)
        return np.array([3, 2.5, 1.5, 0.5, 0, 0, 0]) + noise

    for allowed_w in (2.0, 3.0, 4.0):
        result = stream(device(probe=Probe(noise=0.02)), SPACE, TABLE, scores, watts(allowed_w))
        assert 0.93 * allowed_w <= result.mean_w(20, 120) <= 1.005 * allowed_w


def test_costs_are_learned() -> None:
    """The table is off in its scale and in its ratios; where choices vary, both are found."""

    def scores(step: int) -> NDArray[np.float64]:
        return np.array([3, 2.5, 1.5, 0.5, 0, 0, 0]) + np.random.default_rng(step // 15).normal(0, 1.0, 7)

    result = stream(device(probe=Probe(noise=0.01, delay_s=0.15)), SPACE, TABLE, scores, watts(3.5))
    learned = result.controller.energies_mj
    for name in ("b0", "b1", "b2"):
        assert learned[name] == pytest.approx(1e3 * RUN_J[name], rel=0.25)


def test_too_small_a_budget_lowers_the_rate_says_so_and_recovers() -> None:
    """A load takes nearly all of the budget away, and gives it back."""
    loaded = device(loads=((40.0, 0.99), (150.0, 0.0)))
    always = constant(3, 2.6, 2.0, 1.0, -60, -60, -60)  # no skips: the cheapest is the policy at every step
    result = stream(loaded, SPACE, TABLE, always, watts(2.0), seconds=190)
    assert not any(step.throttled for step in result.between(10, 40))
    pressed = result.between(122, 150)
    assert any(step.throttled for step in pressed) and not all(step.throttled for step in pressed)
    assert all(step.state is not None and step.state.met is False for step in pressed)
    assert result.mean_w(122, 150) <= 1.005 * 2.0
    assert result.worst_w(10, 190) <= 1.05 * 2.0
    assert not any(step.throttled for step in result.between(152, 190))
    assert all(step.state is not None and step.state.met for step in result.between(155, 190))


def test_what_cannot_be_kept_still_answers() -> None:
    """The idle device alone draws more: a step every two seconds is taken all the same."""
    result = stream(device(), SPACE, TABLE, SCORES, watts(0.5), seconds=60)
    taken = [step.time_s for step in result.between(20, 60) if not step.throttled]
    assert max(after - before for before, after in pairwise(taken)) <= 2.3
    state = result.steps[-1].state
    assert state is not None and state.met is False and "where 0.50 W are allowed" in str(state.why)


@pytest.mark.parametrize("probe", [Probe(dies_s=40.0), Probe(freezes_s=40.0)], ids=["dies", "freezes"])
def test_a_meter_that_fails_is_not_trusted_and_not_missed(probe: Probe) -> None:
    """What was learned stands in for it, with a margin; that the budget is met is not known any more."""
    varied = [constant(3, 2.6, 2.0, 1, 0.2, 0.1, 0.05), constant(2, 2.6, 2.5, 1, 0.2, 0.1, 0.05)]
    result = stream(
        device(probe=probe), SPACE, TABLE, lambda step: varied[step // 40 % 2](step), watts(3.0), seconds=120
    )
    assert result.worst_w(55, 120) <= 1.05 * 3.0
    states = [step.state for step in result.between(55, 120)]
    assert all(state is not None and state.met is None for state in states)
    assert {state.why for state in states if state} == {"the power is not known"}
    assert not any(step.throttled for step in result.between(60, 120))


def test_stays_cool() -> None:
    """Without the budget it would reach 81 degrees; it settles within two degrees of what is allowed."""
    hot = device(body=Body(ambient_c=30, heats_c=8.4, time_s=30.0))
    result = stream(
        hot,
        SPACE,
        TABLE,
        lambda step: np.array([3, 2.5, 1.5, 0.5, 0, 0, 0]) + np.random.default_rng(step).normal(0, 1, 7),
        [(0.0, Budget(thermal_c=60))],
        seconds=400,
        sensed=lambda: Readings(temperature_c=hot.temperature_c),
    )
    assert hot.temperature_c == pytest.approx(60, abs=2.0)
    settled = result.between(300, 400)
    assert sum(step.state is not None and step.state.met is False for step in settled) < 0.08 * len(settled)


def test_throttling_does_not_break_the_budget() -> None:
    """Hot enough to throttle and to recover again and again, as its costs change."""
    hot = device(body=Body(ambient_c=40, heats_c=12, time_s=20.0, throttles_c=75, recovers_c=70))
    result = stream(hot, SPACE, TABLE, SCORES, watts(4.0), seconds=200)
    assert result.worst_w(10, 200) <= 1.05 * 4.0


def test_the_battery_lasts() -> None:
    """An hour's energy at 3 W, to last an hour: it is spent at 3 W, and at 3 W when some is gone."""
    used = device()
    battery_j = 3600 * 3.0
    varied = stream(
        used,
        SPACE,
        TABLE,
        lambda step: np.array([3, 2.5, 1.5, 0.5, 0, 0, 0]) + np.random.default_rng(step).normal(0, 1, 7),
        [(0.0, Budget(battery_hours=1.0))],
        seconds=120,
        sensed=lambda: Readings(battery_j=battery_j - used.used_j),
    )
    assert varied.mean_w(20, 120) == pytest.approx(3.0, rel=0.06)


def test_a_latency_budget_leaves_out_what_takes_too_long() -> None:
    fast = device(run_s={"policy": 0.002, "b0": 0.060, "b1": 0.025, "b2": 0.010})
    result = stream(fast, SPACE, TABLE, SCORES, [(0.0, Budget(latency_ms=40))], seconds=20)
    assert set(result.options(10, 20)) == {"b1"}
    assert not result.controller._unreported, "where no power is limited nothing is kept of each step"
    result = stream(fast, SPACE, TABLE, SCORES, [(0.0, Budget(latency_ms=1.0))], seconds=20)
    state = result.steps[-1].state
    assert state is not None and state.met is False and "longer than 1 ms" in str(state.why)


def test_without_a_budget_nothing_is_moved() -> None:
    result = stream(device(), SPACE, TABLE, SCORES, [], seconds=10)
    assert {step.choice for step in result.steps} == {"b0"} and {step.price for step in result.steps} == {0}
    assert {step.state for step in result.steps} == {None}


def test_a_budget_that_is_taken_away_gives_the_price_back() -> None:
    result = stream(device(), SPACE, TABLE, SCORES, [*watts(2.0), (30.0, None)], seconds=40)
    assert result.steps[250].price > 0
    assert {step.price for step in result.between(31, 40)} == {0.0}
