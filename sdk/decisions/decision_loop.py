"""The decision loop: which steps are held, and what is chosen at the others.

A stream, the evaluation of clips, the replay of a log and a golden trace all decide through it, and so does,
line by line, a port in another language.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sdk.decisions.choosers import Chooser
from sdk.decisions.decision import Context, Decision, Observation, Plan, Scores
from sdk.decisions.watch import StreamWatch
from sdk.media.signals.signals import NO_SIGNALS, Signals


class DecisionLoop:
    """One stream's decisions: choosing skip k gives no output, and holds the k - 1 steps after it.

    In a held step neither policy nor branch is run, and the policy's state stays as it is. Another operating
    point ends a hold. Until the stream has its first output at least one group runs a branch, so there is an
    answer from the first frame on.

    With a watch, a stream whose point looks sleeps while nothing happens: nothing is run. When an event
    begins, the point's looks begin with the first, and the stream's answer begins anew.
    """

    _holds: int
    _answered: bool
    _point: str | None
    _since: int | None
    """Steps ago, at the next one, that something was run."""
    _is_clip: bool

    def __init__(self, chooser: Chooser, watch: StreamWatch | None = None) -> None:
        self.chooser, self._watch = chooser, watch
        self.reset()

    def step(
        self,
        observe: Callable[[Plan], Observation],
        plan: Plan | None = None,
        answer: Scores | None = None,
        signals: Signals = NO_SIGNALS,
    ) -> Decision:
        """Decide one step by a plan, the chooser's standing one by default.

        ``observe`` is called with the plan only if the step is decided: it runs the policy where the chooser
        wants that. ``answer`` (classes,): the stream's scores so far, by which a chooser may look no more.
        ``signals``: the step's, for a watch.
        """
        plan = self.chooser.standing_plan if plan is None else plan
        anew = self._follow_watch(plan, answer, signals)
        if anew:
            self.chooser.reset()
            self._holds, self._since = 0, None  # whichever point it is, it begins with its first look
        asleep = self._watch is not None and self._watch.asleep
        if plan.point != self._point and not asleep:
            self._holds, self._point = 0, plan.point  # another point waits for none of the last one's looks
        if self._holds == 0 and not plan.throttled and not asleep:
            self._holds = self.chooser.steps_to_wait(plan, answer, self._since)
        held = self._holds > 0 or (asleep and not plan.throttled)
        self._holds -= self._holds > 0
        self._since = None if self._since is None else self._since + 1
        if held or plan.throttled:
            return self._nothing(plan, held, asleep)
        observation = observe(plan)
        context = Context(self._answered, observation.absent_views)
        decision = self.chooser.decide(observation.scores, plan, context)
        self._holds = decision.holds
        if any(not option.skip for option in decision.options):
            self._answered, self._since = True, 1
            if self._watch is not None:
                self._watch.mark_look(signals)
        return replace(decision, anew=True) if anew else decision

    def decide(
        self,
        observation: Observation,
        plan: Plan | None = None,
        answer: Scores | None = None,
        signals: Signals = NO_SIGNALS,
    ) -> Decision:
        """Decide one step whose observation is known beforehand, as from a log."""
        return self.step(lambda _: observation, plan, answer, signals)

    def expect_steps(self, steps: int | None) -> None:
        """The stream that has begun is a clip of so many steps (None: not known), and never sleeps."""
        self._is_clip = True
        self.chooser.expect_steps(steps)

    def restart(self) -> None:
        """What was before says nothing about what comes: begin anew what has begun, a clip too."""
        is_clip = self._is_clip
        self.reset()
        if is_clip:
            self.expect_steps(None)

    def reset(self) -> None:
        """Begin a new stream."""
        self._holds = 0
        self._answered = False
        self._point = self._since = None
        self._is_clip = False
        self.chooser.reset()
        if self._watch is not None:
            self._watch.reset()

    def _follow_watch(self, plan: Plan, answer: Scores | None, signals: Signals) -> bool:
        """Whether an event begins with this step; the stream may fall asleep with it too."""
        if self._watch is None:
            return False
        self._watch.observe(signals)
        if self._is_clip or not self.chooser.may_rest(plan):
            self._watch.stay_awake()
            return False
        if not plan.throttled and self._watch.begins(signals, answer):
            return True
        self._watch.rest(signals, answer)
        self._holds = 0 if self._watch.asleep else self._holds
        return False

    def _nothing(self, plan: Plan, held: bool, asleep: bool) -> Decision:
        """The decision of a step that runs nothing."""
        return Decision(
            (),
            0,
            plan.price,
            self._answered,
            held=held,
            throttled=plan.throttled,
            asleep=asleep,
        )
