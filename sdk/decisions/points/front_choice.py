"""Choosing along a variant's front: each plan names the operating point that runs."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from runtimes.errors import ArgumentError
from runtimes.spec import ActionSpace, OperatingFront, OperatingPoint
from sdk.decisions.choosers import LEARNED, Chooser, LearnedChoice
from sdk.decisions.decision import Context, Decision, Plan
from sdk.decisions.points.schedule_choice import SCHEDULE, ScheduleChoice

Floats = NDArray[np.floating]


def point_named(front: OperatingFront, name: str) -> OperatingPoint:
    """The point of a front called ``name``. Raises: ArgumentError that names those there are."""
    try:
        return front.point(name)
    except KeyError:
        fix = f"use one of {', '.join(repr(point.name) for point in front.points)}"
        raise ArgumentError(f"point {name}", "is not on the front", fix) from None


class FrontChoice:
    """The operating point that the plan names; the policy at the plan's price where it names none.

    Another point holds from the next step on. ``clip_steps``: of the clips that the
    points were judged on; ``policy_graph``: None for a variant without a policy.
    """

    def __init__(
        self,
        space: ActionSpace,
        costs: Floats,
        front: OperatingFront,
        clip_steps: int,
        policy_graph: str | None,
    ) -> None:
        self.front, self.clip_steps = front, clip_steps
        self._learned = None if policy_graph is None else LearnedChoice(space, costs)
        self.kind = SCHEDULE if self._learned is None else LEARNED
        self._choosers: dict[str, Chooser] = {
            point.name: ScheduleChoice(space, point, clip_steps, policy_graph)
            for point in front.points
            if point.looks
        }
        own = [] if self._learned is None else list(self._learned.options)
        looks = [option for chooser in self._choosers.values() for option in chooser.options]
        self.options = tuple({option.name: option for option in [*own, *looks]}.values())
        self.stand_at(front.point(front.default), 0.0)
        self._current, self._began = self._chooser(self.standing_plan), False

    def stand_at(self, point: OperatingPoint, price: float) -> None:
        """Run a point as long as nothing else is planned; ``price``: that led to it."""
        self.standing_plan = self.plan_of(point, price)

    def plan_of(self, point: OperatingPoint, price: float) -> Plan:
        """The plan of a point of the front; a learned one has its own price."""
        costs = None if self._learned is None else self._learned.standing_plan.costs
        return Plan(price if point.price is None else point.price, costs, point=point.name)

    @property
    def fuses_looks(self) -> bool:
        """Whether the point in use is one that looks."""
        return self._current.fuses_looks

    @property
    def runs_policy(self) -> bool:
        """Whether the policy graph is run at the step that is being decided."""
        return self._current.runs_policy

    def steps_to_wait(self, plan: Plan, answer: Floats | None, since: int | None = None) -> int:
        """Those of the plan's point, which is the one in use from here on.

        Its looks follow the last one of the point before, as if that had been its own.
        """
        chooser = self._chooser(plan)
        if chooser is not self._current and self._began:
            chooser.reset()
            if isinstance(chooser, ScheduleChoice) and since is not None:
                chooser.resume(since)
        self._current, self._began = chooser, True
        return chooser.steps_to_wait(plan, answer)

    def decide(self, scores: Floats | None, plan: Plan, context: Context) -> Decision:
        """As the plan's point does."""
        return self._current.decide(scores, plan, context)

    def expect_steps(self, steps: int | None) -> None:
        """The stream that has begun is a clip of so many steps; None: its end is not known."""
        for chooser in self._choosers.values():
            chooser.expect_steps(steps)

    def set_absent_graphs(self, absent: Collection[str]) -> None:
        """Raises: AdaptiveVideoError if the point in use needs one of them."""
        self._current.set_absent_graphs(absent)
        if self._learned is not None and self._learned is not self._current:
            self._learned.set_absent_graphs(absent)

    def reset(self) -> None:
        """Begin a new stream."""
        self._began = False
        for chooser in self._choosers.values():
            chooser.reset()

    def _chooser(self, plan: Plan) -> Chooser:
        if plan.point is not None and plan.point in self._choosers:
            return self._choosers[plan.point]
        assert self._learned is not None, "a plan without a point, or with a learned one, is a policy's"
        return self._learned
