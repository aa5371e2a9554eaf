"""The budget controller: moves the price so that the average power stays under the budget.

docs/budget.md states the model, the gains and the conditions of stability. In short, once a second:

1. what the meter counted since the last time shows what the device's options cost (cost_estimator.py);
2. from the last decisions' scores it is worked out what power each price would lead to (power_model.py), and
   the lowest price that keeps to the power limit is taken (price_search.py);
3. a reserve of joules (energy_reserve.py) bounds the average whatever the model says: while it is low the
   price is higher, and while it is in deficit steps are throttled.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtimes.spec import ActionSpace, PriceResponse
from sdk.budget.budget import Budget
from sdk.budget.cost_estimator import CostEstimator
from sdk.budget.energy_reserve import WINDOW_S, EnergyReserve
from sdk.budget.latency_estimator import LatencyEstimator
from sdk.budget.metered_energy import SPAN_S, MeteredEnergy, MeterMark, RecentPower, Span
from sdk.budget.power_limit import PowerLimit, Readings
from sdk.budget.power_model import PowerModel
from sdk.budget.price_search import HIGHEST_PRICE, Powers, PriceSearch
from sdk.decisions.decision import Limit, Plan
from sdk.decisions.option_costs import OptionCosts, net_costs
from sdk.decisions.trace import StepTrace

Floats = NDArray[np.float64]

_NO_METER_MARGIN = 0.95
"""Of the power limit, where the meter is silent and only what was learned is known."""
_LONGEST_WAIT_S = 2.0
"""However tight the budget, a step is taken this often."""
_MET = 1.05
_JUDGED_AFTER_S, _LONG_S = 3.0, 15.0
_LATE = 0.12
"""Share of late steps above which a latency budget is not met: two of the last twenty or so are."""
_SMOOTHING = 0.1
_HIGHEST = np.array([HIGHEST_PRICE])

_NOTHING_READ = Readings()


@dataclass(frozen=True, slots=True)
class BudgetState:
    """Where a budget stands after a step.

    ``power_w``: average since the budget was set, of the last 30 s at most, None in the first second and
    where it is not known.
    ``met``: whether the budget holds and no step is throttled for it, None where that is not known, as in the
    first second of a limited power. ``why``: what is wrong, if anything is. ``predicted_mj``: what the time
    since the step before was expected to take, None where nothing is known.
    """

    power_w: float | None
    met: bool | None
    why: str | None
    predicted_mj: float | None


class BudgetController:
    """Plans each step: its price, and whether it is throttled, as even the cheapest options cost too much.

    It has no clock of its own: the times that it is given may be a device's, a stream's or a log's.
    """

    def __init__(
        self,
        space: ActionSpace,
        run_costs: Floats,
        run_ms: Floats,
        *,
        known_energies: bool = False,
        response: PriceResponse | None = None,
    ) -> None:
        """``run_costs`` (1 + n,): of the policy and of each option, 0 for heads and skips.

        In mJ that were measured on this device if ``known_energies``, else in any unit; ``run_ms``: in ms.
        ``response``: how the policy's scores depend on the price.
        """
        self._active_budget: Budget | None = None
        self._space = space
        self._readings = Readings()
        self._app_price = 0.0
        self._price_search = PriceSearch(0.0)
        self._places = {option.name: place for place, option in enumerate(space.options, 1)}
        self._power_model = PowerModel(space, response)
        self._latencies = LatencyEstimator(float(run_ms[0]), run_ms[1:].tolist())
        self._metered = MeteredEnergy(len(run_costs))
        self._energies = [0.0] * len(run_costs)
        self._costs = CostEstimator(run_costs, in_mj=known_energies)
        self._option_costs = OptionCosts.of(space, net_costs(space, run_costs))
        self._time_left = Limit()
        self._energy_takes: Mapping[str, float] = {}
        self._unreported: deque[tuple[float, float]] = deque()
        self._step_s: float | None = None
        self._began = True
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
            if self._watts is not None:
                self._reserve.record_use(now_s, self._watts * elapsed_s, used_j)
        self._metered.restart(now_s, energy_j)
        self._began = True
        self._taken_s = self._throttled_s = -math.inf
        self._moved_s = -math.inf

    def plan_step(
        self,
        now_s: float,
        budget: Budget | None,
        app_price: float = 0.0,
        readings: Readings = _NOTHING_READ,
        since: MeterMark | None = None,
    ) -> Plan:
        """The plan of the step that is due now; a new budget is in force from here on.

        ``app_price``: the price where no power is limited. ``since``: when a new budget was set, and what the
        meter said then; None counts from the last step.
        """
        self._readings, self._app_price = readings, app_price
        if budget is not self._active_budget:
            self._activate(budget, now_s, since)
        if self._watts is None:
            return Plan(app_price, self._option_costs, (self._time_left,))
        price = self._price_search.price_at(self._reserve.share)
        while self._unreported and now_s - self._unreported[0][0] > self._costs.lag_s:
            self._unreported.popleft()
        unreported_j = sum(joules for _, joules in self._unreported)
        left_j = self._reserve.left_j
        energy_left = Limit(max(left_j - unreported_j, 0.0), self._energy_takes)
        throttled = left_j < 0 and now_s - self._taken_s < _LONGEST_WAIT_S
        if not throttled:
            self._taken_s = now_s
        return Plan(price, self._option_costs, (self._time_left, energy_left), throttled)

    def observe_step(self, now_s: float, energy_j: float | None, trace: StepTrace) -> BudgetState | None:
        """Take in a step: when it was done, the meter's joules then (None: not known), how it was decided.

        None if there is no budget.
        """
        if self._active_budget is None:
            return None
        predicted_j = self._record_step(now_s, energy_j, trace)
        if trace.scores is not None:
            self._power_model.remember(now_s, trace.scores, trace.absent_views, trace.decision.price)
            self._learn_speeds(trace)
        if trace.decision.throttled:
            self._throttled_s = now_s
        if now_s - self._moved_s >= SPAN_S:
            self._moved_s = now_s
            self._move_price(now_s)
        met, why = self._judge(now_s)
        nothing_known = self._metered.unmetered and not self._costs.known  # then nothing is known at all
        reported = not nothing_known and self._power.seconds >= SPAN_S
        return BudgetState(
            power_w=self._power.watts if reported else None,
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

    def _activate(self, budget: Budget | None, now_s: float, since: MeterMark | None = None) -> None:
        """What was learned of the device stays; what was judged of the last budget goes."""
        if self._active_budget is None:
            self._price_search.price = self._app_price
        counted_from_s = self._count_from(since or MeterMark(now_s))
        self._active_budget = budget
        self._power_limit = None if budget is None else PowerLimit(budget, now_s)
        self._reserve, self._power = EnergyReserve(), RecentPower(counted_from_s)
        self._watts: float | None = None
        self._price_search.restart()
        self._late = 0.0
        self._taken_s = self._throttled_s = self._moved_s = -math.inf
        self._time_left = Limit()
        self._move_price(now_s)

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
        self._unreported.append((now_s, run_j))
        if self._watts is not None:
            self._reserve.record_use(now_s, self._watts * elapsed_s, used_j)
        if self._began:
            self._began = False  # what is between the beginning and the first step is no step's time
        elif 0 < elapsed_s < 2:
            last_s = self._step_s or elapsed_s
            self._step_s = last_s + _SMOOTHING * (elapsed_s - last_s)
        if span is not None:
            self._learn(span)
        return expected_j

    def _learn(self, span: Span) -> None:
        """Learn the costs, and let the choice go by them."""
        if self._costs.observe(span):
            self._price_search.restart()
        energies = self._costs.energies_j
        self._energies = energies.tolist()
        self._option_costs = OptionCosts.of(self._space, net_costs(self._space, energies))
        self._energy_takes = {name: self._energies[place] for name, place in self._places.items()}

    def _learn_speeds(self, trace: StepTrace) -> None:
        """How long things take, and which share of the steps is late."""
        places = (self._places[option.name] - 1 for option in trace.decision.options)
        self._latencies.record_step(
            trace.policy_ms, list(zip(places, trace.option_ms, strict=True)), trace.step_ms
        )
        limit_ms = None if self._active_budget is None else self._active_budget.latency_ms
        if limit_ms is not None:
            self._late += 0.05 * ((trace.step_ms > limit_ms) - self._late)

    def _move_price(self, now_s: float) -> None:
        self._watts = None
        if self._power_limit is not None:
            self._watts = self._power_limit.watts(now_s, self._power.watts or 0.0, self._readings)
        if self._watts is None:
            self._price_search.price = self._app_price
        else:
            knows = self._costs.known and len(self._power_model) > 0 and self._step_s is not None
            powers_w = self._predicted_power() if knows else None
            self._reserve.set_limit(self._watts, powers_w and float(powers_w(_HIGHEST)[0]))
            if powers_w is not None:
                trusted_w = self._watts * (_NO_METER_MARGIN if self._metered.unmetered else 1.0)
                reserve = self._reserve
                used_w = self._power.watts if self._power.seconds >= _LONG_S else None
                self._price_search.search(now_s, trusted_w, reserve.share, reserve.depth_j, powers_w, used_w)
        if self._active_budget is not None and self._active_budget.latency_ms is not None:
            speeds = self._latencies
            left_ms = self._active_budget.latency_ms - speeds.fixed_p95_ms
            self._time_left = Limit(left_ms, dict(zip(self._places, speeds.options_p95_ms, strict=True)))

    def _predicted_power(self) -> Powers:
        """The power (W) that each price would have led to over the remembered decisions."""
        assert self._step_s is not None
        energies = self._power_model.energies(self._option_costs.relative, self._costs.energies_j)
        base_w, step_s = self._costs.base_w, self._step_s

        def powers_w(prices: Floats) -> Floats:
            energies_j, steps = energies(prices)
            return base_w + energies_j / (steps * step_s)

        return powers_w

    def _judge(self, now_s: float) -> tuple[bool | None, str | None]:
        """Whether the budget is met, and what is wrong if it is not, or why that is not known."""
        assert self._active_budget is not None and self._power_limit is not None
        wrong = []
        if now_s - self._throttled_s < _LONGEST_WAIT_S:
            wrong.append("steps are throttled")
        watts, power = self._watts, self._power
        used_w = power.watts if power.seconds >= _JUDGED_AFTER_S else None
        if watts is not None and used_w is not None and used_w > _MET * watts:
            wrong.append(f"{used_w:.2f} W where {watts:.2f} W are allowed")
        if self._active_budget.latency_ms is not None and self._late > _LATE:
            wrong.append(f"steps take longer than {self._active_budget.latency_ms:g} ms")
        if self._power_limit.too_hot_c is not None:
            wrong.append(f"{self._power_limit.too_hot_c:.1f} °C")
        if wrong:
            return False, ", ".join(wrong)
        unknown = self._power_limit.unknown
        if unknown is None and watts is not None and self._metered.unmetered:
            unknown = "the power"
        if unknown is not None:
            return None, f"{unknown} is not known"
        if watts is not None and power.seconds < SPAN_S:
            return None, "the power is not known yet"
        return True, None
