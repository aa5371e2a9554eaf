"""The decision loop: which steps are held, and what is chosen at the others.

A stream, the evaluation of clips, the replay of a log and a golden trace all decide through it, and so does,
line by line, a port in another language.
"""

from __future__ import annotations

from collections.abc import Callable

from sdk.decisions.choosers import Chooser
from sdk.decisions.decision import Context, Decision, Observation, Plan, Scores


class DecisionLoop:
    """One stream's decisions: choosing skip k gives no output, and holds the k - 1 steps after it.

    In a held step neither policy nor branch is run, and the policy's state stays as it is. Another operating
    point ends a hold. Until the stream
    has its first output at least one group runs a branch, so there is an answer from the first frame on.
    """

    _holds: int
    _answered: bool
    _point: str | None
    _since: int | None
    """Steps ago, at the next one, that something was run."""

    def __init__(self, chooser: Chooser) -> None:
        self.chooser = chooser
        self.reset()

    def step(
        self,
        observe: Callable[[Plan], Observation],
        plan: Plan | None = None,
        answer: Scores | None = None,
    ) -> Decision:
        """Decide one step by a plan, the chooser's standing one by default.

        ``observe`` is called with the plan only if the step is decided: it runs the policy where the chooser
        wants that. ``answer`` (classes,): the stream's scores so far, by which a chooser may look no more.
        """
        plan = self.chooser.standing_plan if plan is None else plan
        if plan.point != self._point:
            self._holds, self._point = 0, plan.point  # another point waits for none of the last one's looks
        if self._holds == 0 and not plan.throttled:
            self._holds = self.chooser.steps_to_wait(plan, answer, self._since)
        held = self._holds > 0
        self._holds -= held
        self._since = None if self._since is None else self._since + 1
        if held or plan.throttled:
            return Decision((), 0, plan.price, self._answered, held=held, throttled=plan.throttled)
        observation = observe(plan)
        context = Context(self._answered, observation.absent_views)
        decision = self.chooser.decide(observation.scores, plan, context)
        self._holds = decision.holds
        if any(not option.skip for option in decision.options):
            self._answered, self._since = True, 1
        return decision

    def decide(
        self, observation: Observation, plan: Plan | None = None, answer: Scores | None = None
    ) -> Decision:
        """Decide one step whose observation is known beforehand, as from a log."""
        return self.step(lambda _: observation, plan, answer)

    def expect_steps(self, steps: int | None) -> None:
        """The stream that has begun is a clip of so many steps; None: its end is not known."""
        self.chooser.expect_steps(steps)

    def reset(self) -> None:
        """Begin a new stream."""
        self._holds = 0
        self._answered = False
        self._point = self._since = None
        self.chooser.reset()
