"""What metering and the budget's controller add to a step, in processor time.

    python -m benchmarks.controller_cost [--steps 3000] [--warm]

The joint model's largest action space (mobile: two modalities, several resolutions and precisions), scores
drawn at random, a meter that reads a file of the kernel's as hardware meters do. At 25, 10 and 4 steps a
second of stream time: processor time of ``EnergyAccounting.plan_step`` and ``EnergyAccounting.finish_step``
for each step, with a budget (of prices, or of eight operating points) and a meter, with a meter alone, and
with neither, in turns; between steps an
int8 branch's worth of memory is read, so that caches are as cold as they are in a stream (``--warm``: not).
Written to ``benchmarks/results/controller_cost.json`` or ``controller_cost-warm.json``.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.record import shown, spread, write
from models.methods import joint
from models.rollout.branch_model import POLICY
from runtimes.spec import (
    ActionSpace,
    CostTable,
    GraphCost,
    Group,
    Interval,
    LookFusion,
    OperatingFront,
    OperatingPoint,
    Policy,
    Variant,
    ViewCost,
)
from sdk.budget.budget import Budget
from sdk.decisions.choosers import Chooser, LearnedChoice
from sdk.decisions.decision import Observation, Plan
from sdk.decisions.decision_loop import DecisionLoop
from sdk.decisions.option_costs import option_costs
from sdk.decisions.points.front_choice import FrontChoice
from sdk.decisions.trace import StepTrace
from sdk.power.meter import Counter, CounterMeter
from sdk.results import Latency, Recognition
from sdk.streaming.energy_accounting import EnergyAccounting
from sdk.streaming.sensors import Sensors

_COUNTER = os.open("/sys/devices/system/cpu/online", os.O_RDONLY)
_COLD = np.zeros(4_000_000, np.uint8)
_TURNS = 5
_CLIP_STEPS = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--warm", action="store_true")
    arguments = parser.parse_args()
    between = _COLD[:1] if arguments.warm else _COLD
    variant, table = _variant()
    rows = []
    for rate_hz in (25.0, 10.0, 4.0):
        spent: dict[str, list[float]] = {"neither": [], "meter": [], "budget": [], "points": []}
        for turn in range(_TURNS):
            for way in list(spent)[:: 1 if turn % 2 else -1]:
                spent[way].append(
                    _Stream(variant, table, way, rate_hz, between).run(arguments.steps // _TURNS)
                )
        bare = np.array(spent["neither"])
        row = {
            "rate_hz": rate_hz,
            "options": len(variant.action_space.options),
            "meter, ms a step": spread(np.array(spent["meter"]) - bare, 4),
            "meter and budget of prices, ms a step": spread(np.array(spent["budget"]) - bare, 4),
            "meter and budget of points, ms a step": spread(np.array(spent["points"]) - bare, 4),
        }
        for kind in ("prices", "points"):
            ms = row[f"meter and budget of {kind}, ms a step"]["median"]  # type: ignore[index]
            row[f"share of a core, {kind}"] = ms * 1e-3 * rate_hz
        rows.append(row)
        print(
            f"{rate_hz:g} Hz: meter {shown(row['meter, ms a step'])}, "  # type: ignore[arg-type]
            f"with a budget of prices {shown(row['meter and budget of prices, ms a step'])}, "  # type: ignore[arg-type]
            f"of points {shown(row['meter and budget of points, ms a step'])} ms a step, "  # type: ignore[arg-type]
            f"{row['share of a core, points']:.3%} of a core"
        )
    write("controller_cost-warm" if arguments.warm else "controller_cost", {"rows": rows})


def _variant() -> tuple[Variant, CostTable]:
    """The joint model's options at two precisions, and made-up costs by their sizes."""
    preset = joint.PRESETS["mobile"]
    groups: list[Group] = []
    graphs, views = [], {}
    for group in joint.action_space(preset).groups:
        options: list[Any] = []
        for option in group.options:
            if option.graph in (None, POLICY):
                options.append(option)
                continue
            for precision, factor in (("fp32", 2.0), ("int8", 1.0)):
                name = f"{option.name}-{precision}"
                options.append(
                    option.model_copy(update={"name": name, "graph": name, "precision": precision})
                )
                ms = factor * len(groups + options)
                graphs.append(
                    GraphCost(graph=name, view=str(option.view), p50_ms=ms, p95_ms=ms, energy_mj=5 * ms)
                )
            views[str(option.view)] = ViewCost(view=str(option.view), p50_ms=0.2, p95_ms=0.2, energy_mj=1.0)
        groups.append(group.model_copy(update={"options": tuple(options)}))
    seen = [joint.view_of(name, preset.policy[name]).name for name in preset.modalities]
    views |= {view: ViewCost(view=view, p50_ms=0.1, p95_ms=0.1, energy_mj=0.5) for view in seen}
    graphs.append(GraphCost(graph=POLICY, view=seen[0], p50_ms=2.0, p95_ms=2.0, energy_mj=10.0))
    heads = {name: f"logits_{name}" for name in preset.modalities}
    policy = Policy(graph=POLICY, views=tuple(seen), state={"h": (1, 64)}, heads=heads)
    variant = Variant(name="mixed", policy=policy, action_space=ActionSpace(groups=tuple(groups)))
    table = CostTable(
        device="desk", providers=(), threads=1, graphs=tuple(graphs), views=tuple(views.values())
    )
    return variant, table


def _front(space: ActionSpace) -> OperatingFront:
    """One to sixteen looks of the two cheapest branches of the first group."""
    branches = [option for option in space.groups[0].options if option.graph not in (None, POLICY)][-2:]
    points = []
    for place, (option, looks) in enumerate((option, 2**k) for option in branches[::-1] for k in range(1, 5)):
        known = Interval(mean=0.5 + 0.05 * place, low=0.0, high=1.0)
        points.append(
            OperatingPoint(
                name=f"{option.name} x {looks}",
                kind="schedule",
                looks=(option.name,) * looks,
                runs={f"{option.graph}@{option.view}": looks, str(option.view): looks},
                accuracy=known,
                true_probability=known,
                ms=float(looks),
            )
        )
    ones = {option.name: 1.0 for option in branches}
    fusion = LookFusion(scales=ones, weights=ones, exponent=0.5)
    return OperatingFront(
        variant="mixed",
        fusion=fusion,
        points=tuple(points),
        default=points[-1].name,
        dense=points[-1],
        judged_on="nothing: made up",
    )


def _counting(read_j: Callable[[], float]) -> CounterMeter:
    return CounterMeter("package", "a counter", [Counter(read_j)], 0.001)


@dataclass
class _Stream:
    """Steps of a stream: their choices are made, and nothing is run."""

    variant: Variant
    table: CostTable
    way: str
    rate_hz: float
    between: NDArray[np.uint8]
    """What is read between steps."""

    def __post_init__(self) -> None:
        self.now_s, self.used_j = 0.0, 0.0
        space = self.variant.action_space
        costs = option_costs(self.variant, self.table)
        self.chooser: Chooser = LearnedChoice(space, costs, 1.0)
        if self.way == "points":
            self.chooser = FrontChoice(space, costs, _front(space), _CLIP_STEPS, POLICY)
        meter = None if self.way == "neither" else _counting(self._read)
        self.accounting = EnergyAccounting(
            self.variant, self.chooser, self.table, Sensors(meter), clock=lambda: self.now_s
        )
        if self.way in ("budget", "points"):
            self.accounting.budget = Budget(watts=2.0 + 0.05 * self.rate_hz)
        self.energies = dict(
            zip((o.name for o in space.options), 1e-3 * option_costs(self.variant, self.table), strict=True)
        )

    def _read(self) -> float:
        os.pread(_COUNTER, 32, 0)  # what reading a counter of the kernel takes
        return self.used_j

    def run(self, steps: int) -> float:
        """Processor ms a step."""
        random, loop, spent = np.random.default_rng(0), DecisionLoop(self.chooser), 0.0
        latency = Latency(queue=0, decode=1, resize=1, policy=2, branch=5, post=0.1, total=9.1)
        self.accounting.begin_stream()
        for step in range(steps):
            self.now_s = step / self.rate_hz
            self.used_j += 2.0 / self.rate_hz
            self.between.sum()
            began = time.thread_time()
            plan = self.accounting.plan_step(self.chooser.standing_plan)
            point = plan.point
            spent += time.thread_time() - began
            scores: NDArray[np.float64] | None = None

            def observe(plan: Plan) -> Observation:
                nonlocal scores
                if not self.chooser.runs_policy:
                    return Observation()
                scores = random.normal(scale=3.0, size=len(self.variant.action_space.options))
                return Observation(scores)

            decision = loop.step(observe, plan)
            options = decision.options
            self.used_j += 0.01 * (scores is not None) + sum(max(self.energies[o.name], 0.0) for o in options)
            trace = StepTrace(decision, scores, (), 2.0, (5.0,) * len(options), 9.1, point)
            recognition = Recognition(
                self.now_s, step, "disc", 0.9, (("disc", 0.9),), "rgb", "int8", latency, 0, False
            )
            self.between.sum()
            began = time.thread_time()
            self.accounting.finish_step(recognition, trace)
            spent += time.thread_time() - began
        return spent * 1e3 / steps


if __name__ == "__main__":
    main()
