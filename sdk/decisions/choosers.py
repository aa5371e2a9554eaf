"""Ways to choose the options of a step: by the policy's scores, always the same, or at random."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runtimes.spec import ActionSpace, Group, Option, Variant
from sdk.decisions.choice import decide, held_steps
from sdk.decisions.decision import Context, Decision, Plan
from sdk.decisions.option_costs import OptionCosts
from sdk.errors import OptionError, require_whole

Floats = NDArray[np.floating]

LEARNED, FIXED, RANDOM = "learned", "fixed", "random"


class Chooser(Protocol):
    """How the options of a step are chosen."""

    kind: str
    """``learned``, ``fixed`` or ``random``."""
    options: tuple[Option, ...]
    """All that may be chosen, now or when their graphs have come."""
    standing_plan: Plan
    """What it goes by as long as nothing else is planned."""

    @property
    def runs_policy(self) -> bool:
        """Whether the policy graph is run before the choice."""
        ...

    @property
    def may_run_policy(self) -> bool:
        """Whether it may be at some step."""
        ...

    @property
    def fuses_looks(self) -> bool:
        """Whether answers are fused as those of looks, see ``runtimes.spec.LookFusion``."""
        ...

    @property
    def memory_steps(self) -> int | None:
        """Steps whose looks the answer is of; None: as many as the stream's fusion remembers."""
        ...

    def may_rest(self, plan: Plan) -> bool:
        """Whether what the plan names ever rests."""
        ...

    def decide(self, scores: Floats | None, plan: Plan, context: Context) -> Decision:
        """Choose by the policy's ``scores`` (n,), None where it was not run.

        If no group has an option that is there, nothing is run.
        """
        ...

    def steps_to_wait(self, plan: Plan, answer: Floats | None, since: int | None = None) -> int:
        """For how many steps from this one on nothing is to be run, by the stream's scores so far.

        Asked before each step that is to be decided, and before the policy is run. ``since``: how many steps
        ago something was run last; None if nothing was.
        """
        ...

    def set_absent_graphs(self, absent: Collection[str]) -> None:
        """From the next choice on, choose among all options but those whose graph is ``absent``.

        Raises: AdaptiveVideoError if that leaves too little to choose from.
        """
        ...

    def reset(self) -> None:
        """Begin a new stream."""
        ...

    def expect_steps(self, steps: int | None) -> None:
        """The stream that has begun is a clip of so many steps; None: its end is not known."""
        ...


def _require_branches(space: ActionSpace, absent: Collection[str]) -> None:
    """Raises: AdaptiveVideoError if a group has no branch but such whose graph is ``absent``."""
    for group in space.groups:
        graphs = {option.graph for option in group.options if option.graph}
        if graphs <= set(absent):
            reason = f"none of its graphs ({', '.join(sorted(graphs))}) is there"
            raise OptionError(f"group {group.name}", reason, "fetch the bundle's missing files")


class LearnedChoice:
    """The policy's choice, see ``sdk.decisions.choice``."""

    kind = LEARNED
    runs_policy = may_run_policy = True
    fuses_looks = False
    memory_steps = None

    def __init__(self, space: ActionSpace, costs: Floats, price: float = 0.0) -> None:
        """``costs`` (n,) of the options in any unit, and ``price``, of the standing plan."""
        self._space = space
        self._absent: Collection[str] = ()
        self.options = space.options
        self.standing_plan = Plan(price, OptionCosts.of(space, costs))

    def decide(self, scores: Floats | None, plan: Plan, context: Context) -> Decision:
        """The largest ``score - price * cost`` of each group. Raises: ValueError without scores."""
        if scores is None:
            raise ValueError("the learned choice needs the policy's scores")
        return decide(scores, plan, context, self._absent)

    def may_rest(self, plan: Plan) -> bool:
        """Never: every step is decided, or held by its own count."""
        return False

    def set_absent_graphs(self, absent: Collection[str]) -> None:
        """Choose among all options but those whose graph is ``absent``; however high they score."""
        _require_branches(self._space, absent)
        self._absent = absent

    def reset(self) -> None:
        """Nothing is remembered from one stream to the next."""

    def expect_steps(self, steps: int | None) -> None:
        """It makes no difference here."""

    def steps_to_wait(self, plan: Plan, answer: Floats | None, since: int | None = None) -> int:
        """None: every step is decided."""
        return 0


@dataclass(frozen=True, slots=True)
class _InUse:
    """What a fixed choice runs: ``branches``, with the other groups' skips, and whether one is a head."""

    branches: tuple[Option, ...]
    options: tuple[Option, ...]
    runs_policy: bool


class FixedChoice:
    """The same branches at every ``every``-th step; the policy runs only if one is its own head.

    Branches of several groups are named together, joined by ``+``; groups of which none is named skip.
    Others may be named at any time, from any thread: a step runs what was named when it began. Of a variant
    without a policy all options are kept open, so that a switch waits for nothing; of others just those that
    were named.
    """

    kind, standing_plan = FIXED, Plan()
    fuses_looks = False
    memory_steps = None

    def __init__(self, variant: Variant, option: str | None = None, every: int = 1) -> None:
        """``option`` None is each group's first.

        Raises: AdaptiveVideoError as ``switch``, and for ``every`` < 1.
        """
        require_whole("every", every, 1, "steps")
        self._variant = variant
        self._branches = {entry.name: entry for entry in variant.action_space.options if not entry.skip}
        self._every = every
        self._named = option is not None
        self._absent: Collection[str] = ()
        self.options: tuple[Option, ...] = () if variant.policy else tuple(self._branches.values())
        self._step = self._named_last = self._use(self._first() if option is None else option)

    @property
    def runs_policy(self) -> bool:
        """Whether what the step runs is a head."""
        return self._step.runs_policy

    @property
    def may_run_policy(self) -> bool:
        """Whether it does; another that is named is opened when it is."""
        return self.runs_policy

    def _first(self) -> str:
        """The first branch of each group whose graph is there."""
        groups = [
            [entry.name for entry in group.options if not entry.skip and entry.graph not in self._absent]
            for group in self._variant.action_space.groups
        ]
        return "+".join(names[0] for names in groups if names)

    @property
    def option(self) -> str:
        """What was named last."""
        return "+".join(entry.name for entry in self._named_last.branches)

    def branches(self, option: str) -> tuple[Option, ...]:
        """The branches of these names, in the order of their groups.

        Raises: AdaptiveVideoError if there is no such branch, its graph is not there, or its group has two.
        """
        names = str(option).split("+")
        for name in names:
            if name not in self._branches:
                reason = f"is not a branch of variant {self._variant.name}"
                fix = f"use one of {', '.join(self._branches)}"
                if len(self._variant.action_space.groups) > 1:
                    fix = f"{fix}, or several joined by +"
                raise OptionError(f"option {name}", reason, fix)
            graph = self._branches[name].graph
            if graph in self._absent:
                fix = "fetch the bundle's missing files, or fix another option"
                raise OptionError(f"option {name}", f"its graph {graph} is not there", fix)
        of_groups = [
            [entry for entry in group.options if entry.name in names and not entry.skip]
            for group in self._variant.action_space.groups
        ]
        if len(names) != len(set(names)) or any(len(entries) > 1 for entries in of_groups):
            reason = "names two of one group, of which one runs at a step"
            raise OptionError(f"option {option}", reason, "name one of each group at most")
        return tuple(entry for entries in of_groups for entry in entries)

    def switch(self, option: str) -> None:
        """Use others from the next step on that is decided. Raises: AdaptiveVideoError as ``branches``."""
        self._named_last = self._use(option)

    def _use(self, option: str) -> _InUse:
        chosen = self.branches(option)
        self.options = (*self.options, *(entry for entry in chosen if entry not in self.options))
        heads = any(self._variant.is_head(entry) for entry in chosen)
        return _InUse(chosen, self._without(chosen, ()), heads)

    def decide(self, scores: Floats | None, plan: Plan, context: Context) -> Decision:
        """Always the same, but for what is absent."""
        step, absent = self._step, context.absent_views
        options = self._without(step.branches, absent) if absent else step.options
        return Decision(options, self._every - 1, plan.price, context.allow_skip)

    def _without(self, branches: Sequence[Option], absent_views: Collection[str]) -> tuple[Option, ...]:
        running = [entry for entry in branches if entry.view not in absent_views]
        options = (
            next((o for o in group.options if o in running), _skip_of(group))
            for group in self._variant.action_space.groups
        )
        return tuple(option for option in options if option)

    def may_rest(self, plan: Plan) -> bool:
        """Never: every step is decided, or held by its own count."""
        return False

    def set_absent_graphs(self, absent: Collection[str]) -> None:
        """Do without what is ``absent``: an option that nobody named gives way to the next.

        Raises: AdaptiveVideoError if the option that was named, or all, are absent.
        """
        self._absent = absent
        if not self._named:
            _require_branches(self._variant.action_space, absent)
            kept = all(entry.graph not in absent for entry in self._named_last.branches)
            self.switch(self.option if kept else self._first())
        self.branches(self.option)

    def reset(self) -> None:
        """Nothing is remembered from one stream to the next."""

    def expect_steps(self, steps: int | None) -> None:
        """It makes no difference here."""

    def steps_to_wait(self, plan: Plan, answer: Floats | None, since: int | None = None) -> int:
        """None: every step is decided, by what was named last before it."""
        self._step = self._named_last  # read once: it may be set from another thread during the step
        return 0


class RandomChoice:
    """A uniform draw in each group, the same for every stream; the policy still runs.

    So it differs from the learned choice in nothing but the decision.
    """

    kind, standing_plan = RANDOM, Plan()
    runs_policy = may_run_policy = True
    fuses_looks = False
    memory_steps = None

    def __init__(self, space: ActionSpace, seed: int) -> None:
        require_whole("random_seed", seed, 0, "a random generator")
        self._space = space
        self._seed = seed
        self.options = space.options
        self.set_absent_graphs(())
        self.reset()

    def decide(self, scores: Floats | None, plan: Plan, context: Context) -> Decision:
        """One option of each group, drawn; where all skip and may not, a branch of one that is drawn too."""
        groups, allow_skip, absent_views = self._space.groups, context.allow_skip, context.absent_views
        there = [i for i, group in enumerate(groups) if self._branches_of(group, absent_views)]
        alone = len(there) == 1 and not allow_skip
        options: list[Option | None] = []
        for group in groups:
            branches = self._branches_of(group, absent_views)
            skips = [option for option in group.options if option.skip]
            if not branches:
                options.append(max(skips, key=lambda option: option.skip, default=None))
            else:
                drawn = branches if alone else [o for o in group.options if o in branches or o in skips]
                options.append(self._one_of(drawn))
        if there and not allow_skip and all(option is None or option.skip for option in options):
            forced = there[int(self._random.integers(len(there)))]
            options[forced] = self._one_of(self._branches_of(groups[forced], absent_views))
        chosen = tuple(option for option in options if option)
        return Decision(chosen, held_steps(chosen), plan.price, allow_skip)

    def may_rest(self, plan: Plan) -> bool:
        """Never: every step is decided, or held by its own count."""
        return False

    def set_absent_graphs(self, absent: Collection[str]) -> None:
        """Draw among all options but those whose graph is ``absent``."""
        _require_branches(self._space, absent)
        self._absent = absent

    def reset(self) -> None:
        """Draw the same sequence again."""
        self._random = np.random.default_rng(self._seed)

    def expect_steps(self, steps: int | None) -> None:
        """It makes no difference here."""

    def steps_to_wait(self, plan: Plan, answer: Floats | None, since: int | None = None) -> int:
        """None: every step is decided."""
        return 0

    def _branches_of(self, group: Group, absent_views: Collection[str]) -> list[Option]:
        return [
            option
            for option in group.options
            if option.graph and option.graph not in self._absent and option.view not in absent_views
        ]

    def _one_of(self, options: Sequence[Option]) -> Option:
        return options[int(self._random.integers(len(options)))]


def _skip_of(group: Group) -> Option | None:
    """A group's shortest skip."""
    return min((o for o in group.options if o.skip), key=lambda option: option.skip, default=None)
