"""Choosing along a variant's front: each plan names the operating point that runs."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from runtimes.errors import AdaptiveVideoError, ArgumentError
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
    """The operating point that the plan names; another one holds from the next step on.

    ``clip_steps``: of the clips that the points were judged on; ``policy_graph``: None for a variant without
    a policy.
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
        self._absent: Collection[str] = ()
        self._is_clip = False
        self._clip: int | None = None
        self.stand_at(front.point(front.default), 0.0)
        self._current, self._began = self._chooser(self.standing_plan), False

    def stand_at(self, point: OperatingPoint, price: float, *, named: bool = False) -> None:
        """Run a point as long as nothing else is planned.

        ``price``: that led to it; ``named``: by the app, which then has no other.
        """
        self.standing_plan, self._named = self.plan_of(point, price), named

    def plan_of(self, point: OperatingPoint, price: float) -> Plan:
        """The plan of a point of the front; a learned one has its own price.

        Raises: AdaptiveVideoError if it needs a graph that is not there.
        """
        self._chooser_of(point.name).set_absent_graphs(self._absent)
        costs = None if self._learned is None else self._learned.standing_plan.costs
        return Plan(price if point.price is None else point.price, costs, point=point.name)

    @property
    def fuses_looks(self) -> bool:
        """Whether the point in use is one that looks."""
        return self._current.fuses_looks

    @property
    def memory_steps(self) -> int | None:
        """As the point in use."""
        return self._current.memory_steps

    @property
    def runs_policy(self) -> bool:
        """Whether the policy graph is run at the step that is being decided."""
        return self._current.runs_policy

    def may_rest(self, plan: Plan) -> bool:
        """As the plan's point."""
        return self._chooser(plan).may_rest(plan)

    @property
    def may_run_policy(self) -> bool:
        """Whether any point runs the policy graph."""
        return self._learned is not None

    def steps_to_wait(self, plan: Plan, answer: Floats | None, since: int | None = None) -> int:
        """Those of the plan's point, which is the one in use from here on.

        Its looks follow the last one of the point before, as if that had been its own.
        """
        chooser = self._chooser(plan)
        if chooser is not self._current and self._began:
            chooser.reset()
            if self._is_clip:
                chooser.expect_steps(self._clip)
            if self._clip is None and isinstance(chooser, ScheduleChoice) and since is not None:
                chooser.resume(since)
        self._current, self._began = chooser, True
        return chooser.steps_to_wait(plan, answer)

    def decide(self, scores: Floats | None, plan: Plan, context: Context) -> Decision:
        """As the plan's point does."""
        return self._current.decide(scores, plan, context)

    def expect_steps(self, steps: int | None) -> None:
        """The stream that has begun is a clip of so many steps; None: its end is not known."""
        self._is_clip, self._clip = True, steps if steps is not None and steps <= self.clip_steps else None
        for chooser in self._choosers.values():
            chooser.expect_steps(steps)

    def set_absent_graphs(self, absent: Collection[str]) -> None:
        """Points that need one of these cannot run; if that is the standing one, the next cheaper stands.

        Raises: AdaptiveVideoError if the app named that one, or no point can run.
        """
        self._absent = absent
        places = {point.name: place for place, point in enumerate(self.front.points)}
        standing, price = places[str(self.standing_plan.point)], self.standing_plan.price
        points = self.front.points
        others = () if self._named else (*points[:standing][::-1], *points[standing + 1 :])
        refused: AdaptiveVideoError | None = None
        for point in (points[standing], *others):
            try:
                self.stand_at(point, price, named=self._named)
            except AdaptiveVideoError as error:
                refused = refused or error
            else:
                return
        assert refused is not None, "a front has points"
        raise refused

    def reset(self) -> None:
        """Begin a new stream."""
        self._began, self._clip, self._is_clip = False, None, False
        for chooser in self._choosers.values():
            chooser.reset()

    def _chooser(self, plan: Plan) -> Chooser:
        return self._chooser_of(plan.point)

    def _chooser_of(self, point: str | None) -> Chooser:
        """Raises: ValueError for a plan of no point of this front."""
        chooser = self._choosers.get(str(point), self._learned)
        if chooser is None:
            raise ValueError(f"point {point} is not on the front")
        return chooser
