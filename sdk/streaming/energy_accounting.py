"""The energy of a stream: the meter, the budget's controller and the log of decisions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from runtimes.device import device_name
from runtimes.errors import ArgumentError
from runtimes.spec import CostTable, Variant
from sdk.budget.budget import Budget, BudgetError
from sdk.budget.budget_state import BudgetState
from sdk.budget.controller import BudgetController
from sdk.budget.metered_energy import MeterMark
from sdk.budget.point_levels import PointLevels
from sdk.budget.power_level import PowerLevels
from sdk.budget.power_limit import Readings
from sdk.budget.price_levels import PriceLevels
from sdk.decisions.choosers import LEARNED, Chooser
from sdk.decisions.decision import Plan
from sdk.decisions.option_costs import run_costs, run_energies
from sdk.decisions.points.front_choice import FrontChoice
from sdk.decisions.points.schedule_choice import SCHEDULE
from sdk.decisions.trace import StepTrace
from sdk.power import EnergyWindow, find_battery, find_thermometer
from sdk.power.window import StepEnergy
from sdk.recording.decision_log import DecisionLog
from sdk.results import Recognition
from sdk.streaming.sensors import Sensors, read_sensor

Clock = Callable[[], float]

_SENSED_S = 1.0
"""How often temperature and battery are read."""


_NO_SENSORS = Sensors()


class EnergyAccounting:
    """Meters each step of one stream, and keeps to a budget if there is one.

    ``clock``: the seconds that power is per. Use it from one thread, but for ``budget``.
    """

    def __init__(
        self,
        variant: Variant,
        chooser: Chooser,
        table: CostTable | None,
        sensors: Sensors = _NO_SENSORS,
        clock: Clock = time.monotonic,
        log: DecisionLog | None = None,
    ) -> None:
        """Raises: KeyError if the cost table lacks a graph or view that the variant has; ArgumentError."""
        if log is not None and not isinstance(log, DecisionLog):
            raise ArgumentError(f"log {log!r}", "is not a DecisionLog", "use DecisionLog(path, {})")
        self._window = EnergyWindow(sensors.meter) if sensors.meter is not None else None
        self._thermometer, self._battery = sensors.thermometer, sensors.battery
        self._clock, self._log, self._kind = clock, log, chooser.kind
        self._readings, self._sensed_s = Readings(), -math.inf
        self._energies = None if table is None else run_energies(variant, table)
        self._places = {option.name: place for place, option in enumerate(variant.action_space.options, 1)}
        run_ms = None if table is None else run_costs(variant, table)
        costs = run_ms if self._energies is None else self._energies
        known = self._energies is not None and table is not None and table.device == device_name()
        self._began = MeterMark(clock())
        self._setting: tuple[Budget | None, MeterMark] = (None, self._began)
        self._controller: BudgetController | None = None
        levels = power_levels(chooser, variant)
        if levels is not None and costs is not None and run_ms is not None:
            self._controller = BudgetController(
                variant.action_space, costs, run_ms, known_energies=known, levels=levels
            )
        if log is not None:
            log.write_options(chooser, variant, costs, run_ms, known)

    @property
    def budget(self) -> Budget | None:
        """What limits the stream; None: nothing."""
        return self._setting[0]

    @budget.setter
    def budget(self, budget: Budget | None) -> None:
        """Raises: BudgetError if nothing here can choose by it, or measure what is limited."""
        if budget is not None:
            if not isinstance(budget, Budget):
                raise BudgetError(
                    f"budget {budget!r}", "is no Budget", "give Budget(watts=5), or Budget.parse"
                )
            if self._controller is None:
                raise self._no_controller(budget)
            self._find_sensors(budget)
        energy_j = None if budget is None or self._window is None else self._window.read()
        self._setting = budget, MeterMark(self._clock(), energy_j)

    def _no_controller(self, budget: Budget) -> BudgetError:
        if self._kind not in (LEARNED, SCHEDULE):
            reason = f"the choice is {self._kind} here"
            fix = (
                "leave fixed and random_seed out; without a policy, open it with a budget, a price or a point"
            )
        else:
            reason, fix = "the bundle has no cost table", "measure one with adaptive-bench"
        return BudgetError(f"budget {budget}", reason, fix)

    @property
    def learned_mj(self) -> dict[str, float]:
        """What the policy and each option were learned to take (mJ); empty without a budget."""
        return {} if self._controller is None else self._controller.energies_mj

    def begin_stream(self) -> None:
        """A stream begins."""
        now_s = self._clock()
        energy_j = None if self._window is None else self._window.begin()
        self._began = MeterMark(now_s, energy_j)
        if self._controller is not None:
            self._controller.begin_stream(now_s, energy_j)
        if self._log is not None:
            self._log.write_stream_start(now_s, energy_j)

    def expect_steps(self, steps: int | None) -> None:
        """The stream that has begun is a clip of so many steps; None: its end is not known."""
        if self._controller is not None:
            self._controller.expect_steps(steps)
        if self._log is not None:
            self._log.write_expected_steps(steps)

    def set_absent_graphs(self, absent: Collection[str]) -> None:
        """From here on these graphs are not there."""
        if self._controller is not None:
            self._controller.set_absent_graphs(absent)
        if self._log is not None:
            self._log.write_absent_graphs(absent)

    def plan_step(self, standing: Plan) -> Plan:
        """The plan of the step that is due now; ``standing``: what holds without a budget."""
        now_s, (budget, set_at) = self._clock(), self._setting  # read once: it may be changed meanwhile
        since = max(set_at, self._began, key=lambda mark: mark.at_s)
        self._sense(now_s, budget)
        if self._log is not None:
            self._log.note_plan(now_s, self._readings, budget, standing, since)
        if self._controller is None:
            return standing
        return self._controller.plan_step(now_s, budget, standing, self._readings, since)

    def finish_step(self, recognition: Recognition, trace: StepTrace) -> Recognition:
        """The step's result with what it used, and where the budget stands."""
        energy = self._metered(recognition, trace)
        now_s, state = self._clock(), None
        if self._controller is not None:
            state = self._controller.observe_step(now_s, None if energy is None else energy.total_j, trace)
        fields = _energy_fields(energy) | _budget_fields(state)
        if fields:  # copying takes longer than all else, without a meter and a budget
            recognition = replace(recognition, **fields)
        if self._log is not None:
            self._log.write_step(now_s, energy, trace, recognition)
        return recognition

    def _metered(self, recognition: Recognition, trace: StepTrace) -> StepEnergy | None:
        if self._window is None:
            return None
        return self._window.step(recognition.latency_ms.total, self._table_mj(trace))

    def _table_mj(self, trace: StepTrace) -> float | None:
        """What the cost table says that a step's runs took."""
        if self._energies is None:
            return None
        ran = [self._places[option.name] for option in trace.decision.options]
        policy_mj = float(self._energies[0]) if trace.scores is not None else 0.0
        return policy_mj + sum(float(self._energies[place]) for place in ran)

    def _sense(self, now_s: float, budget: Budget | None) -> None:
        """Read temperature and battery, if the budget limits them, once a second."""
        if budget is None or now_s - self._sensed_s < _SENSED_S:
            return
        self._sensed_s = now_s
        hot = left = None
        if budget.thermal_c is not None and self._thermometer is not None:
            hot = read_sensor("the temperature", self._thermometer)
        if budget.battery_hours is not None and self._battery is not None:
            left = read_sensor("the battery", self._battery)
        self._readings = Readings(hot, left)

    def _find_sensors(self, budget: Budget) -> None:
        """What a budget limits must be measured: by what the app gave, or by what this machine has."""
        power = budget.watts is not None or budget.battery_hours is not None or budget.thermal_c is not None
        if power and self._window is None:
            fix = "give meter=find_meter(), an app's own, or ModeledMeter (adaptive-run: --meter)"
            raise BudgetError(f"budget {budget}", "needs a meter, and none was given", fix)
        if budget.thermal_c is not None and self._thermometer is None:
            sensor = find_thermometer()
            if sensor is None:
                fix = "give thermometer=, a function that returns degrees Celsius"
                raise BudgetError(f"budget {budget}", "this machine shows no temperature", fix)
            self._thermometer = sensor.read
        if budget.battery_hours is not None and self._battery is None:
            sensor = find_battery()
            if sensor is None:
                fix = "give battery=, a function that returns the joules left"
                raise BudgetError(f"budget {budget}", "this machine shows no battery", fix)
            self._battery = sensor.read


def power_levels(chooser: Chooser, variant: Variant) -> PowerLevels | None:
    """What a budget chooses between here: points or prices; None where the choice goes by neither."""
    if isinstance(chooser, FrontChoice):
        graph = None if variant.policy is None else variant.policy.graph
        return PointLevels(variant.action_space, chooser.front, chooser.clip_steps, graph)
    return PriceLevels(variant.action_space, variant.response) if chooser.kind == LEARNED else None


def _energy_fields(energy: StepEnergy | None) -> dict[str, Any]:
    """What a recognition says of energy."""
    if energy is None:
        return {}
    return {
        "energy_mj": energy.step_mj,
        "energy_source": energy.source,
        "energy_problem": energy.problem,
    }


def _budget_fields(state: BudgetState | None) -> dict[str, Any]:
    """What a recognition says of a budget."""
    if state is None:
        return {}
    return {
        "power_w": state.power_w,
        "budget_met": state.met,
        "budget_problem": state.why,
        "predicted_mj": state.predicted_mj,
    }
