"""Running an operating point that looks at fixed steps, each of which may be the last one."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from runtimes.spec import ActionSpace, OperatingPoint, Option
from sdk.decisions.decision import Context, Decision, Plan
from sdk.decisions.points.look_positions import evenly_spaced, from_first_step
from sdk.errors import OptionError

Floats = NDArray[np.floating]

SCHEDULE = "schedule"


class ScheduleChoice:
    """The looks of a point at their steps; a stop rule may leave out the rest of them.

    Of a clip whose number of steps is known the looks are evenly spaced over it. Of a stream they are over
    every ``clip_steps`` steps, from its first step on, and a rule that stopped looks again with the next of
    these periods. The policy runs only where one of the looks is its own head.
    """

    kind = SCHEDULE
    standing_plan = Plan()
    fuses_looks = True

    def __init__(
        self, space: ActionSpace, point: OperatingPoint, clip_steps: int, policy_graph: str | None = None
    ) -> None:
        """``policy_graph``: the graph whose options are the policy's own heads, if there is a policy."""
        branches = {option.name: option for option in space.options if not option.skip}
        self._looks = tuple(tuple(branches[name] for name in look.split("+")) for look in point.looks)
        self._stop, self._clip_steps, self.point = point.stop, clip_steps, point
        self._step = self._taken = 0
        self._best: int | None = None
        used = {option.name: option for look in self._looks for option in look}
        self.options: tuple[Option, ...] = tuple(used.values())
        self.runs_policy = any(option.graph == policy_graph for option in self.options)
        self.may_run_policy = self.runs_policy
        self.reset()

    def steps_to_wait(self, plan: Plan, answer: Floats | None, since: int | None = None) -> int:
        """Steps to the next look: none where one is due, the rest of them all where the rule stops."""
        if self._is_sure(answer) or self._taken == len(self._positions):
            return self._steps_left()
        ahead = self._positions[self._taken] - self._step
        self._step += ahead
        return ahead

    def decide(self, scores: Floats | None, plan: Plan, context: Context) -> Decision:
        """The look that is due."""
        look, position = self._looks[self._taken], self._positions[self._taken]
        self._taken += 1
        if self._taken < len(self._positions):
            after = self._positions[self._taken] - position
            self._step += after
        else:
            after = self._steps_left()
        options = tuple(option for option in look if option.view not in context.absent_views)
        return Decision(options, after - 1, plan.price, context.allow_skip)

    def expect_steps(self, steps: int | None) -> None:
        """The stream that has begun is a clip of so many steps; None: its end is not known."""
        self._is_clip = True
        self._place_looks(steps)

    def _place_looks(self, steps: int | None) -> None:
        looks = len(self._looks)
        if steps is not None and 0 < steps <= self._clip_steps:
            self._period, self._positions = None, evenly_spaced(looks, steps)
        else:
            self._period, self._positions = self._clip_steps, from_first_step(looks, self._clip_steps)

    def set_absent_graphs(self, absent: Collection[str]) -> None:
        """Raises: OptionError if a look needs one of these graphs."""
        for option in self.options:
            if option.graph in absent:
                fix = "fetch the bundle's missing files, or choose another point"
                raise OptionError(f"point {self.point.name}", f"its graph {option.graph} is not there", fix)

    def reset(self) -> None:
        """Begin a new stream, whose end is not known."""
        self._begin_period()
        self._is_clip = False
        self._place_looks(None)

    def resume(self, since: int) -> None:
        """Go on in a stream whose last look, of any point, was so many steps ago: the first of a period."""
        if since < self._clip_steps:
            self._step, self._taken = since, sum(position < since for position in self._positions)

    @property
    def memory_steps(self) -> int | None:
        """The point's in a stream; what is asked of a clip is an answer of all of it."""
        return None if self._is_clip else self.point.memory_steps

    def may_rest(self, plan: Plan) -> bool:
        """Always."""
        return True

    def _begin_period(self) -> None:
        self._step = self._taken = 0
        self._best = None

    def _steps_left(self) -> int:
        """Steps from this one to the next period, which begins; a clip has but one."""
        left = _FOREVER if self._period is None else self._period - self._step
        self._begin_period()
        return left

    def _is_sure(self, answer: Floats | None) -> bool:
        """Whether the rule stops after the looks so far, by the answer that they left."""
        if self._stop is None or answer is None or self._taken == 0:
            return False
        second, first = np.partition(answer, -2)[-2:]
        best = int(answer.argmax())
        agrees = best == self._best
        self._best = best
        return self._stop.stops(self._taken, float(first - second), agrees)


_FOREVER = 2**31
"""Steps to wait where no more looks are to come."""
