"""Streams of written scores on simulated devices, under budgets: all of the loop but pictures and graphs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtimes.spec import (
    ActionSpace,
    Group,
    Interval,
    LookFusion,
    OperatingFront,
    OperatingPoint,
    Option,
    PriceResponse,
)
from sdk.budget.budget import Budget
from sdk.budget.budget_state import BudgetState
from sdk.budget.controller import BudgetController
from sdk.budget.point_levels import PointLevels
from sdk.budget.power_level import PowerLevels
from sdk.budget.power_limit import Readings
from sdk.budget.price_levels import PriceLevels
from sdk.decisions.choosers import Chooser, LearnedChoice
from sdk.decisions.decision import Observation, Plan
from sdk.decisions.decision_loop import DecisionLoop
from sdk.decisions.option_costs import net_costs
from sdk.decisions.points.front_choice import FrontChoice
from sdk.decisions.trace import StepTrace
from sdk.power.simulated import SimulatedDevice

Scores = Callable[[int], NDArray[np.float64]]
"""The policy's scores (n,) at a step."""


def action_space(branches: int) -> ActionSpace:
    """Branches b0, b1, ... of falling cost, the policy's own head, and skips of 1, 2 and 4."""
    options = [Option(name=f"b{i}", graph=f"g{i}", view="view", precision="int8") for i in range(branches)]
    options.append(Option(name="head", graph="policy", view="view", precision="int8"))
    options += [Option(name=f"skip{k}", skip=k) for k in (1, 2, 4)]
    return ActionSpace(groups=(Group(name="step", options=tuple(options)),))


@dataclass
class Step:
    """What came of a step: joules used until then, by the device's own true count."""

    time_s: float
    used_j: float
    price: float
    choice: str
    throttled: bool
    value: float
    state: BudgetState | None
    way: str
    """The operating point, or the price."""


@dataclass
class Stream:
    """A stream's steps, and the controller that it was under."""

    steps: list[Step]
    controller: BudgetController

    def worst_w(self, since_s: float, until_s: float, window_s: float = 30.0) -> float:
        """The highest average power of any window within these times."""
        times = np.array([step.time_s for step in self.steps])
        used = np.array([step.used_j for step in self.steps])
        begins = np.flatnonzero((times >= since_s) & (times + window_s <= until_s))
        ends = np.searchsorted(times[:-1], times[begins] + window_s - 1e-9)
        return float(((used[ends] - used[begins]) / (times[ends] - times[begins])).max())

    def mean_w(self, since_s: float, until_s: float) -> float:
        """The average power between these times."""
        inside = self.between(since_s, until_s)
        return (inside[-1].used_j - inside[0].used_j) / (inside[-1].time_s - inside[0].time_s)

    def between(self, since_s: float, until_s: float) -> list[Step]:
        """The steps between these times."""
        return [step for step in self.steps if since_s <= step.time_s < until_s]

    def options(self, since_s: float, until_s: float) -> list[str]:
        """What was chosen between these times, held steps apart."""
        chosen = (step.choice for step in self.between(since_s, until_s))
        return [choice for choice in chosen if choice != "held"]


def stream(
    device: SimulatedDevice,
    space: ActionSpace,
    table: Sequence[float],
    scores: Scores,
    budgets: Sequence[tuple[float, Budget | None]],
    *,
    rate_hz: float = 10.0,
    seconds: float = 120.0,
    known: bool = False,
    metered: bool = True,
    responds: float = 0.0,
    expected: float = 0.0,
    sensed: Callable[[], Readings] = Readings,
    restarts_s: float = math.inf,
    front: OperatingFront | None = None,
    clip_steps: int = 16,
) -> Stream:
    """Stream for so long; ``table`` (1 + n,): costs that the bundle states, of the policy and each option.

    ``budgets``: from when on each holds. ``responds``: by how much the most expensive option's score falls
    where the price that the policy takes is e-fold as high; ``expected``: what the bundle says of that.
    ``restarts_s``: how long until the next stream begins. ``front``: operating points to move along.
    """
    costs = np.array(table, np.float64)
    response = PriceResponse(prices=PRICES, scores=tuple(map(tuple, expected * _told(PRICES, costs))))
    chooser: Chooser = LearnedChoice(space, net_costs(space, costs))
    levels: PowerLevels = PriceLevels(space, response if expected else None)
    if front is not None:
        chooser = FrontChoice(space, net_costs(space, costs), front, clip_steps, "policy")
        levels = PointLevels(space, front, clip_steps, "policy")
    run_ms = (0.1 if known else 10) * costs
    controller = BudgetController(space, costs, run_ms, known_energies=known, levels=levels)
    loop, meter = DecisionLoop(chooser), device.meter()
    places = {option.name: place for place, option in enumerate(space.options)}
    steps, waiting, budget, began_s = [], list(budgets), None, -math.inf
    for number in range(int(seconds * rate_hz)):
        if number / rate_hz - began_s >= restarts_s or number == 0:
            began_s = number / rate_hz
            loop.reset()
            controller.begin_stream(device.now_s, meter.read() if metered else None)
        device.advance(number / rate_hz)
        while waiting and waiting[0][0] <= device.now_s:
            budget = waiting.pop(0)[1]
        plan = controller.plan_step(device.now_s, budget, chooser.standing_plan, sensed())
        row: NDArray[np.float64] | None = None
        step_ms = 1.0

        def observe(plan: Plan, number: int = number) -> Observation:
            nonlocal row, step_ms
            if not chooser.runs_policy:
                return Observation()
            row = scores(number) + responds * _told((plan.price,), costs)[0]
            step_ms += 1e3 * device.run("policy")
            return Observation(row)

        decision = loop.step(observe, plan)
        options = decision.options
        for option in options:
            if option.graph not in (None, "policy"):
                step_ms += 1e3 * device.run(option.name)
        option_ms = tuple(1e3 * device.run_s.get(option.name, 0.0) for option in options)
        trace = StepTrace(decision, row, (), 1.0, option_ms, step_ms, plan.point)
        state = controller.observe_step(device.now_s, meter.read() if metered else None, trace)
        value = 0.0 if row is None else float(row[places[options[0].name]])
        choice = options[0].name if options else "held"
        way = plan.point or f"{plan.price:g}"
        steps.append(Step(device.now_s, device.used_j, plan.price, choice, plan.throttled, value, state, way))
    return Stream(steps, controller)


PRICES = (0.0, 0.5, 1.0, 2.0, 4.0, 10.0)


def _told(prices: Sequence[float], costs: NDArray[np.float64]) -> NDArray[np.float64]:
    """What being told these prices does to scores (m, n); above 10 nothing more."""
    return -np.log1p(np.minimum(prices, 10.0))[:, None] * (costs[1:] / costs.max())


def schedules(space: ActionSpace, looks: Sequence[tuple[str, int]], default: int = 0) -> OperatingFront:
    """A front of schedules, each an option of ``space`` and how often a clip runs it, from bad to good."""
    options = {option.name: option for option in space.options}
    points = []
    for rank, (name, count) in enumerate(looks):
        known = Interval(mean=0.5 + 0.4 * (1 - 0.6**rank), low=0.0, high=1.0)
        points.append(
            OperatingPoint(
                name=f"{name} x {count}",
                kind="schedule",
                looks=(name,) * count,
                runs={f"{options[name].graph}@view": count, "view": count},
                accuracy=known,
                true_probability=known,
                ms=float(count),
            )
        )
    ones = dict.fromkeys((name for name, _ in looks), 1.0)
    return OperatingFront(
        variant="int8",
        fusion=LookFusion(scales=ones, weights=ones, exponent=0.5),
        points=tuple(points),
        default=points[default].name,
        dense=points[-1],
        judged_on="nothing: a test",
    )


def constant(*scores: float) -> Scores:
    """The same scores at every step."""
    return lambda step: np.array(scores)
