"""The budget controller: shares time between ways to run so that the average power stays under the budget.

docs/budget.md states the model and why it is stable. In short, once a second:

1. what the meter counted since the last time shows what the device's options cost (cost_estimator.py);
2. from these and from how often each operating point runs them it is worked out what power each would lead
   to (point_levels.py; of a variant without points, each price: price_levels.py);
3. time is shared between the two next to the power limit (time_sharing.py);
4. a reserve of joules (energy_reserve.py) bounds every 30 s whatever the model says: while it is nearly empty
   the cheapest way runs, and while it is in deficit steps are throttled.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from runtimes.spec import ActionSpace
from sdk.budget.budget import Budget
from sdk.budget.budget_state import BudgetState, Standing
from sdk.budget.cost_estimator import CostEstimator
from sdk.budget.energy_reserve import WINDOW_S, EnergyReserve
from sdk.budget.latency_estimator import LatencyEstimator
from sdk.budget.metered_energy import SPAN_S, MeteredEnergy, MeterMark, RecentPower, Span
from sdk.budget.power_level import Device, PowerLevel, PowerLevels
from sdk.budget.power_limit import PowerLimit, Readings
from sdk.budget.price_levels import PriceLevels
from sdk.budget.time_sharing import TimeSharing
from sdk.decisions.decision import Limit, Plan
from sdk.decisions.option_costs import OptionCosts, net_costs
from sdk.decisions.trace import StepTrace

Floats = NDArray[np.float64]

_NO_METER_MARGIN = 0.95
"""Of the power limit, where the meter is silent and only what was learned is known."""
_LONGEST_WAIT_S = 2.0
"""However tight the budget, a step is taken this often."""
_LONGEST_STEP_S = 10.0
"""What is longer is a pause, and no step's time."""
_LOW, _ENOUGH = 0.1, 0.5
"""How full the energy reserve is where the cheapest way takes over, and where it goes on by turns again."""
_OTHER_LOAD = 0.1
"""Of the power limit: a change of the power of all else that begins the sharing of time anew, if it lasts for
two spans; what is less is smoothed."""
_SMOOTHING, _BASE_SMOOTHING = 0.1, 0.2

_NOTHING_READ = Readings()


class BudgetController:
    """Plans each step: which way it runs, and whether it is throttled, as even the cheapest costs too much.

    It has no clock of its own: the times that it is given may be a device's, a stream's or a log's.
    """

    def __init__(
        self,
        space: ActionSpace,
        run_costs: Floats,
        run_ms: Floats,
        *,
        known_energies: bool = False,
        levels: PowerLevels | None = None,
    ) -> None:
        """``run_costs`` (1 + n,): of the policy and of each option, 0 for heads and skips.

        In mJ that were measured on this device if ``known_energies``, else in any unit; ``run_ms``: in ms.
        ``levels``: what it chooses between, by default the policy's prices.
        """
        self._active_budget: Budget | None = None
        self._space = space
        self._readings = Readings()
        self._levels = PriceLevels(space) if levels is None else levels
        self._sharing = TimeSharing()
        self._places = {option.name: place for place, option in enumerate(space.options, 1)}
        self._latencies = LatencyEstimator(float(run_ms[0]), run_ms[1:].tolist())
        self._metered = MeteredEnergy(len(run_costs))
        self._energies = [0.0] * len(run_costs)
        self._costs = CostEstimator(run_costs, 1e-3 * run_ms, in_mj=known_energies)
        self._option_costs = OptionCosts.of(space, net_costs(space, run_costs))
        self._first_costs = run_costs
        self._cheapest: PowerLevel | None = None
        self._absent: Collection[str] = ()
        self._time_left = Limit()
        self._energy_takes: Mapping[str, float] = {}
        self._unreported: deque[tuple[float, float]] = deque()
        self._step_s: float | None = None
        self._began = True
        self._clip: PowerLevel | None = None
        self._base_w, self._jumped = 0.0, False
        self._in_clip = self._is_low = False
        self._activate(None, 0.0)

    def begin_stream(self, now_s: float, energy_j: float | None) -> None:
        """A stream begins, maybe long after the last, at the meter's reading ``energy_j``.

        What the device used meanwhile counts, and so does what it was allowed; costs are not learned from it.
        """
        if self._active_budget is not None:
            elapsed_s = self._metered.elapsed_s(now_s)
            used_j, _ = self._metered.record_step(now_s, energy_j, (), self._costs.base_w * elapsed_s)
            if elapsed_s > WINDOW_S:
                self._power = RecentPower(now_s)
            else:
                self._power.record_use(now_s, used_j)
            self._record_use(now_s, elapsed_s, used_j)
        self._metered.restart(now_s, energy_j)
        self._began = True
        self._in_clip, self._clip = False, None
        self._taken_s = self._throttled_s = -math.inf
        self._moved_s = -math.inf

    def expect_steps(self, steps: int | None) -> None:
        """The stream that has begun has so many steps; None: its end is not known."""
        self._in_clip = self._levels.is_clip(steps)

    def set_absent_graphs(self, absent: Collection[str]) -> None:
        """From here on these graphs are not there."""
        self._absent = tuple(absent)
        self._restrict()

    def plan_step(
        self,
        now_s: float,
        budget: Budget | None,
        standing: Plan,
        readings: Readings = _NOTHING_READ,
        since: MeterMark | None = None,
    ) -> Plan:
        """The plan of the step that is due now; a new budget is in force from here on.

        ``standing``: what holds where no power is limited. ``since``: when a new budget was set, and what the
        meter said then; None counts from the last step.
        """
        self._readings = readings
        if budget is not self._active_budget:
            self._activate(budget, now_s, since)
        if self._active_budget is None:
            return standing
        if self._watts is None:
            level = self._levels.standing(standing.price, standing.point)
            return self._plan(self._held_for_clip(level), (self._time_left,))
        energy_left = Limit(max(self._left_j(now_s), 0.0), self._energy_takes)
        throttled = self._reserve.left_j < 0 and now_s - self._taken_s < _LONGEST_WAIT_S
        if not throttled:
            self._taken_s = now_s
        level = self._level_at(now_s, standing)
        return self._plan(level, (self._time_left, energy_left), throttled)

    def observe_step(self, now_s: float, energy_j: float | None, trace: StepTrace) -> BudgetState | None:
        """Take in a step: when it was done, the meter's joules then (None: not known), how it was decided.

        None if there is no budget.
        """
        budget, limit = self._active_budget, self._power_limit
        if budget is None or limit is None:
            return None
        predicted_j = self._record_step(now_s, energy_j, trace)
        self._levels.observe(now_s, trace)
        if trace.decision.options:
            self._learn_speeds(trace, budget.latency_ms)
        if trace.decision.throttled:
            self._throttled_s = now_s
        if now_s - self._moved_s >= SPAN_S:
            self._moved_s = now_s
            self._move(now_s)
        throttled = now_s - self._throttled_s < _LONGEST_WAIT_S
        power, unmetered = self._power, self._metered.unmetered
        standing = Standing(limit, self._watts, power, throttled, budget.latency_ms, self._late, unmetered)
        met, why = standing.judge()
        nothing_known = unmetered and not self._costs.known  # then nothing is known at all
        return BudgetState(
            power_w=None if nothing_known or power.seconds < SPAN_S else power.watts,
            met=met,
            why=why,
            predicted_mj=None if nothing_known else predicted_j * 1e3,
        )

    @property
    def energies_mj(self) -> dict[str, float]:
        """What the policy, and each option that costs something, was learned to take (mJ)."""
        if not self._costs.known:
            return {}
        options = {name: 1e3 * self._energies[place] for name, place in self._places.items()}
        return {"policy": 1e3 * self._energies[0]} | {name: mj for name, mj in options.items() if mj > 0}

    def _plan(self, level: PowerLevel, limits: tuple[Limit, ...], throttled: bool = False) -> Plan:
        return Plan(level.price, self._option_costs, limits, throttled, level.point)

    def _level_at(self, now_s: float, standing: Plan) -> PowerLevel:
        """The way to run: whose turn it is, but the cheapest while the energy reserve is nearly empty."""
        turn = self._sharing.level_at(now_s, self._reserve.left_j)
        turn = turn or self._levels.first(standing.price, self._first_costs)
        self._is_low = self._reserve.share < (_ENOUGH if self._is_low else _LOW)
        if self._is_low:
            turn = self._cheapest or turn
        return self._held_for_clip(turn)

    def _held_for_clip(self, level: PowerLevel) -> PowerLevel:
        """A clip runs to its end as it began."""
        if not self._in_clip:
            return level
        self._clip = self._clip or level
        return self._clip

    def _left_j(self, now_s: float) -> float:
        """What the energy reserve holds, less what a late meter has not told yet."""
        while self._unreported and now_s - self._unreported[0][0] > self._costs.lag_s:
            self._unreported.popleft()
        return self._reserve.left_j - sum(joules for _, joules in self._unreported)

    def _activate(self, budget: Budget | None, now_s: float, since: MeterMark | None = None) -> None:
        """What was learned of the device stays; what was judged of the last budget goes."""
        counted_from_s = self._count_from(since or MeterMark(now_s))
        self._active_budget = budget
        self._power_limit = None if budget is None else PowerLimit(budget, now_s)
        self._reserve, self._power = EnergyReserve(), RecentPower(counted_from_s)
        self._watts: float | None = None
        self._sharing.restart()
        self._is_low = False
        self._late = 0.0
        self._taken_s = self._throttled_s = self._moved_s = -math.inf
        self._time_left = Limit()
        self._restrict()
        self._move(now_s)

    def _count_from(self, mark: MeterMark) -> float:
        """Separate what was used until ``mark`` from what comes after; the time (s) that this succeeded for.

        Without a reading, or where a step has ended since, that is the end of the last step.
        """
        if self._active_budget is None:  # then no step was recorded of late
            self._metered.restart(mark.at_s, mark.energy_j)
            return mark.at_s
        last_s = self._metered.last_s
        if mark.energy_j is None or mark.at_s < last_s:
            return last_s
        idle_j = self._costs.base_w * (mark.at_s - last_s)
        _, span = self._metered.record_step(mark.at_s, mark.energy_j, (), idle_j)
        if span is not None:
            self._learn(span)
        self._began = True
        return mark.at_s

    def _record_step(self, now_s: float, energy_j: float | None, trace: StepTrace) -> float:
        """Record what was used since the last step, and learn from it; what was expected of it (J)."""
        ran = tuple(self._places[option.name] for option in trace.decision.options)
        ran = ran if trace.scores is None else (0, *ran)
        elapsed_s, run_j = self._metered.elapsed_s(now_s), sum(self._energies[place] for place in ran)
        expected_j = self._costs.base_w * elapsed_s + run_j
        used_j, span = self._metered.record_step(now_s, energy_j, ran, expected_j)
        self._power.record_use(now_s, used_j)
        if self._watts is not None:
            self._unreported.append((now_s, run_j))
        self._record_use(now_s, elapsed_s, used_j)
        if self._began:
            self._began = False  # what is between the beginning and the first step is no step's time
        elif 0 < elapsed_s < _LONGEST_STEP_S:
            last_s = self._step_s or elapsed_s
            self._step_s = last_s + _SMOOTHING * (elapsed_s - last_s)
        if span is not None:
            self._learn(span)
        return expected_j

    def _record_use(self, now_s: float, elapsed_s: float, used_j: float) -> None:
        if self._watts is not None:
            self._reserve.record_use(now_s, self._watts * elapsed_s, used_j)
            self._sharing.record_use(self._trusted_w * elapsed_s, used_j)

    def _learn(self, span: Span) -> None:
        """Learn the costs, and let the choice go by them."""
        self._costs.observe(span)
        off_w = self._costs.base_w - self._base_w
        jumped = abs(off_w) > _OTHER_LOAD * (self._watts or 0.0)
        if jumped and (self._jumped or self._base_w == 0):
            self._sharing.restart(at_once=False)
            self._base_w += off_w
        elif not jumped:
            self._base_w += _BASE_SMOOTHING * off_w
        self._jumped = jumped and not self._jumped
        energies = self._costs.energies_j
        self._energies = energies.tolist()
        self._option_costs = OptionCosts.of(self._space, net_costs(self._space, energies))
        self._energy_takes = {name: self._energies[place] for name, place in self._places.items()}

    def _learn_speeds(self, trace: StepTrace, limit_ms: float | None) -> None:
        """How long things take, and which share of the steps is late."""
        places = (self._places[option.name] - 1 for option in trace.decision.options)
        policy_ms = None if trace.scores is None else trace.policy_ms
        spent = list(zip(places, trace.option_ms, strict=True))
        self._latencies.record_step(policy_ms, spent, trace.step_ms)
        if limit_ms is not None:
            self._late += 0.05 * ((trace.step_ms > limit_ms) - self._late)

    def _move(self, now_s: float) -> None:
        """Take in once a second what is limited now, and what each way to run leads to by now."""
        self._watts = None
        if self._power_limit is not None:
            self._watts = self._power_limit.watts(now_s, self._power.watts or 0.0, self._readings)
        if self._active_budget is not None and self._active_budget.latency_ms is not None:
            self._restrict()
        if self._watts is None:
            return
        levels = self._predicted()
        if levels is not None:
            self._cheapest = levels[0]
            self._sharing.move(now_s, self._trusted_w, levels)
        cheapest_w = None if levels is None else levels[0].power_w
        self._reserve.set_limit(self._watts, cheapest_w, self._sharing.swing_j)

    @property
    def _trusted_w(self) -> float:
        """The power limit, less a margin while only what was learned is known."""
        return (self._watts or 0.0) * (_NO_METER_MARGIN if self._metered.unmetered else 1.0)

    def _predicted(self) -> Sequence[PowerLevel] | None:
        """The ways to run with the power that each leads to; None while too little is known."""
        if not self._costs.known or not self._levels.known or self._step_s is None:
            return None
        costs = self._option_costs.relative
        device = Device(self._costs.energies_j, self._base_w, costs, self._step_s)
        return self._levels.predict(device, self._sharing.current)

    def _restrict(self) -> None:
        """Leave out what is not there, or takes longer than a step may."""
        speeds, limit_ms = self._latencies, None
        if self._active_budget is not None:
            limit_ms = self._active_budget.latency_ms
        left_ms = math.inf if limit_ms is None else limit_ms - speeds.rest_p95_ms
        takes_ms = np.array([speeds.policy_p95_ms, *speeds.options_p95_ms])
        self._levels.restrict(self._absent, left_ms, takes_ms)
        if limit_ms is not None:
            options_ms = dict(zip(self._places, takes_ms[1:].tolist(), strict=True))
            self._time_left = Limit(left_ms - speeds.policy_p95_ms, options_ms)
