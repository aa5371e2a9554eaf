"""What is worth computing at a step: the choice among the options, the steps a skip holds, and the fusion.

Plain numpy, used both on the device and by the compiler's evaluation, so that both decide alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runtimes import spec
from runtimes.errors import AdaptiveVideoError
from runtimes.spec import ActionSpace, CostTable, Group, Option, Variant

Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Decision:
    """The options chosen at a step, one of each group, and how many steps after it are held.

    A group whose views are all absent gives its longest skip, or nothing if it has none.
    """

    options: tuple[Option, ...]
    held: int


class Chooser(Protocol):
    """How the options of a step are chosen."""

    kind: str
    """Learnt, fixed or random."""
    runs_policy: bool
    """Whether the policy graph is run before the choice."""
    options: tuple[Option, ...]
    """All that may be chosen, now or when their graphs have come."""
    price: float
    """What the policy is told, and what its choice goes by; 0 where it does not choose."""

    def decide(
        self, scores: Floats | None, price: float, allow_skip: bool, absent_views: Collection[str] = ()
    ) -> Decision:
        """Choose by the policy's ``scores`` (n,) at a price, None where it was not run.

        Without ``allow_skip`` at least one group runs a branch. Options on ``absent_views`` are not chosen;
        if no group has another, nothing is run.
        """
        ...

    def offer(self, absent: Collection[str]) -> None:
        """From the next choice on, offer all options but those whose graph is ``absent``.

        Raises: AdaptiveVideoError if that leaves too little to choose from.
        """
        ...

    def reset(self) -> None:
        """Begin a new stream."""
        ...


def choose(
    scores: Floats, space: ActionSpace, costs: Floats, price: float, allow_skip: bool
) -> tuple[Option, ...]:
    """The best option of each group: the largest ``score - price * cost``.

    scores: (n,) over all options, group after group; costs: (n,) in any unit, counted in units of the dearest
    one's; price: the score that this one must earn more than one that costs nothing. Ties go to the cheaper
    option, then to the earlier. Without ``allow_skip`` at least one group runs a branch: where all would
    skip, the one whose best branch gives up least.
    """
    return _choose(scores, _cheapest_first(space, relative_costs(costs)), price, allow_skip)


def relative_costs(costs: Floats) -> Floats:
    """Costs (n,) in units of the dearest; zeros if all are."""
    dearest = costs.max()
    return costs / dearest if dearest > 0 else np.zeros(len(costs))


Priced = tuple[int, float, Option]
"""An option with its place among the scores, and its relative cost."""


def _cheapest_first(space: ActionSpace, costs: Floats, absent: Collection[str] = ()) -> list[list[Priced]]:
    """Each group's options by cost, then by place; those whose graph is ``absent`` are left out."""
    priced = list(zip(range(len(costs)), costs.tolist(), space.options, strict=True))
    orders, first = [], 0
    for group in space.groups:
        entries = priced[first : first + len(group.options)]
        orders.append(sorted((e for e in entries if e[2].graph not in absent), key=lambda entry: entry[1]))
        first += len(group.options)
    return orders


def _choose(
    scores: Floats,
    orders: list[list[Priced]],
    price: float,
    allow_skip: bool,
    absent_views: Collection[str] = (),
) -> tuple[Option, ...]:
    # Plain floats: after a branch has run nothing is left in the processor's caches, and each numpy call
    # is slower than all of this.
    values = scores.tolist()
    chosen: list[Option] = []
    silent = True
    least, instead = math.inf, None
    for order in orders:
        branch = skip = longest = None
        most = most_of_skips = -math.inf
        skips_first = False  # what is cheaper, or comes first, wins a tie
        for place, cost, option in order:
            value = values[place] - price * cost
            if option.skip:
                if longest is None or option.skip > longest.skip:
                    longest = option
                if skip is None or value > most_of_skips:
                    skip, most_of_skips, skips_first = option, value, branch is None or value > most
            elif (branch is None or value > most) and option.view not in absent_views:
                branch, most = option, value
        if branch is None:
            if longest is not None:  # what cannot run holds no other group back
                chosen.append(longest)
            continue
        if skip is None or most > most_of_skips or (most == most_of_skips and not skips_first):
            chosen.append(branch)
            silent = False
            continue
        chosen.append(skip)
        if instead is None or most_of_skips - most < least:
            least, instead = most_of_skips - most, (len(chosen) - 1, branch)
    if silent and not allow_skip and instead is not None:
        chosen[instead[0]] = instead[1]
    return tuple(chosen)


def _require_branches(space: ActionSpace, absent: Collection[str]) -> None:
    """Raises: AdaptiveVideoError if a group has no branch but such whose graph is ``absent``."""
    for group in space.groups:
        graphs = {option.graph for option in group.options if option.graph}
        if graphs <= set(absent):
            reason = f"none of its graphs ({', '.join(sorted(graphs))}) is there"
            raise AdaptiveVideoError(f"group {group.name}", reason, "fetch the bundle's missing files")


def run_costs(variant: Variant, table: CostTable) -> NDArray[np.float64]:
    """Time (ms) of one run of the policy with its views, and of each option with what it renders (1 + n,).

    The policy's own heads and skips take nothing, and the policy's views are rendered already.

    Raises: KeyError if the table lacks a graph or view.
    """
    return _runs(variant, table.run_ms, table.view_ms)


def run_energies(variant: Variant, table: CostTable) -> NDArray[np.float64] | None:
    """The same in mJ; None if the energy of any was not measured. Raises: KeyError."""
    energies = _runs(variant, table.run_mj, table.view_mj)
    return None if np.isnan(energies).any() else energies


def _runs(
    variant: Variant,
    of_graph: Callable[[str, str], float | None],
    of_view: Callable[[str], float | None],
) -> NDArray[np.float64]:
    """What runs cost (1 + n,), not a number where that is not known."""
    policy = variant.policy
    rendered = policy.views if policy else ()
    parts: list[list[float | None]] = [[]]
    if policy is not None:
        parts[0] = [of_graph(policy.graph, policy.views[0]), *map(of_view, rendered)]
    for option in variant.action_space.options:
        parts.append([])
        if option.graph and option.view and not variant.is_head(option):
            parts[-1].append(of_graph(option.graph, option.view))
            parts[-1] += [] if option.view in rendered else [of_view(option.view)]
    return np.array([sum(math.nan if part is None else part for part in own) for own in parts], np.float64)


def option_costs(variant: Variant, table: CostTable) -> NDArray[np.float64]:
    """Cost of each option (n,): in mJ if the table has all energies, else in ms.

    A long skip costs less than nothing: it saves runs of the policy.

    Raises: KeyError if the table lacks a graph or view.
    """
    energies = run_energies(variant, table)
    return less_saved(variant.action_space, run_costs(variant, table) if energies is None else energies)


def less_saved(space: ActionSpace, runs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Costs of options (n,), from those of runs (1 + n,), less the runs of the policy that skips save."""
    return runs[1:] - np.array(space.saved_runs) * runs[0]


def dearest_choice(variant: Variant, costs: Floats) -> str:
    """Each group's dearest branch at the ``costs`` (n,) of all options, by name, joined by ``+``."""
    names, first = [], 0
    for group in variant.action_space.groups:
        own = costs[first : first + len(group.options)]
        branches = [(float(c), o) for c, o in zip(own, group.options, strict=True) if not o.skip]
        names.append(max(branches, key=lambda pair: pair[0])[1].name)
        first += len(group.options)
    return "+".join(names)


_FIRST_PRICE, _PROHIBITIVE = 0.1, 1e4
"""Of the prices that are tried where a choice would take too much: the first, and where the search ends."""


@dataclass
class Limit:
    """What the options of a step may take together, such as ms or joules; ``takes``: each by its name."""

    left: float = math.inf
    takes: Mapping[str, float] = field(default_factory=dict)

    def exceeded(self, options: Sequence[Option]) -> bool:
        """Whether these take more than is left; what nothing is known of takes nothing."""
        return sum(self.takes.get(option.name, 0.0) for option in options) > self.left


class LearntChoice:
    """The policy's choice at a price, which may be changed at any time."""

    kind = "learnt"
    runs_policy = True

    def __init__(self, space: ActionSpace, costs: Floats, price: float = 0.0) -> None:
        """``costs`` (n,) of the options in any unit, counted in units of the dearest one's."""
        self._space = space
        self._absent: Collection[str] = ()
        self.limits: tuple[Limit, ...] = ()
        self.options = space.options
        self.price = price
        self.recost(costs)

    def recost(self, costs: Floats) -> None:
        """From the next choice on, go by these costs (n,)."""
        self.costs = relative_costs(costs)
        self._orders = _cheapest_first(self._space, self.costs, self._absent)

    def decide(
        self, scores: Floats | None, price: float, allow_skip: bool, absent_views: Collection[str] = ()
    ) -> Decision:
        """The largest ``score - price * cost`` of each group.

        Where that takes more than is left of something, what it is at the next of ever higher prices that
        does not, or the cheapest.
        """
        if scores is None:
            raise ValueError("the learnt choice needs the policy's scores")
        options = _choose(scores, self._orders, price, allow_skip, absent_views)
        while price < _PROHIBITIVE and any(limit.exceeded(options) for limit in self.limits):
            price = max(2 * price, _FIRST_PRICE)
            options = _choose(scores, self._orders, price, allow_skip, absent_views)
        return Decision(options, _held(options))

    def offer(self, absent: Collection[str]) -> None:
        """Offer all options but those whose graph is ``absent``; however high they score."""
        _require_branches(self._space, absent)
        self._absent = absent
        self._orders = _cheapest_first(self._space, self.costs, absent)

    def reset(self) -> None:
        """Nothing is remembered from one stream to the next."""


class FixedChoice:
    """The same branches at every ``every``-th step; the policy runs only if one is its own head.

    Branches of several groups are named together, joined by ``+``; groups of which none is named skip.
    Others may be named between two steps. Of a variant without a policy all options are kept open,
    so that a switch waits for nothing; of others just those that were named.
    """

    kind, price = "fixed", 0.0

    def __init__(self, variant: Variant, option: str | None = None, every: int = 1) -> None:
        """``option`` None is each group's first.

        Raises: AdaptiveVideoError as ``switch``, and for ``every`` < 1.
        """
        if every < 1:
            raise AdaptiveVideoError(f"every {every}", "is not a number of steps", "use 1 or more")
        self._variant = variant
        self._branches = {entry.name: entry for entry in variant.action_space.options if not entry.skip}
        self._every = every
        self._named = option is not None
        self._absent: Collection[str] = ()
        self.options: tuple[Option, ...] = () if variant.policy else tuple(self._branches.values())
        self.switch(self._first() if option is None else option)

    def _first(self) -> str:
        """The first branch of each group whose graph is there."""
        groups = [
            [entry.name for entry in group.options if not entry.skip and entry.graph not in self._absent]
            for group in self._variant.action_space.groups
        ]
        return "+".join(names[0] for names in groups if names)

    @property
    def option(self) -> str:
        """What is in use, by name."""
        return "+".join(entry.name for entry in self._branches_in_use)

    def branches(self, option: str) -> tuple[Option, ...]:
        """The branches of these names, in the order of their groups.

        Raises: AdaptiveVideoError if there is no such branch, its graph is not there, or its group has two.
        """
        names = str(option).split("+")
        for name in names:
            if name not in self._branches:
                reason = f"is no branch of variant {self._variant.name}"
                mend = f"use one of {', '.join(self._branches)}"
                if len(self._variant.action_space.groups) > 1:
                    mend = f"{mend}, or several joined by +"
                raise AdaptiveVideoError(f"option {name}", reason, mend)
            graph = self._branches[name].graph
            if graph in self._absent:
                mend = "fetch the bundle's missing files, or fix another option"
                raise AdaptiveVideoError(f"option {name}", f"its graph {graph} is not there", mend)
        of_groups = [
            [entry for entry in group.options if entry.name in names and not entry.skip]
            for group in self._variant.action_space.groups
        ]
        if len(names) != len(set(names)) or any(len(entries) > 1 for entries in of_groups):
            reason = "names two of one group, of which one runs at a step"
            raise AdaptiveVideoError(f"option {option}", reason, "name one of each group at most")
        return tuple(entry for entries in of_groups for entry in entries)

    def switch(self, option: str) -> None:
        """Use others from the next step on. Raises: AdaptiveVideoError as ``branches``."""
        chosen = self.branches(option)
        self.options = (*self.options, *(entry for entry in chosen if entry not in self.options))
        self.runs_policy = any(self._variant.is_head(entry) for entry in chosen)
        self._branches_in_use = chosen
        self._decision = self._decided(())

    def decide(
        self, scores: Floats | None, price: float, allow_skip: bool, absent_views: Collection[str] = ()
    ) -> Decision:
        """Always the same, but for what is absent."""
        return self._decided(absent_views) if absent_views else self._decision

    def _decided(self, absent_views: Collection[str]) -> Decision:
        running = [entry for entry in self._branches_in_use if entry.view not in absent_views]
        options = (
            next((o for o in group.options if o in running), _skip_of(group))
            for group in self._variant.action_space.groups
        )
        return Decision(tuple(option for option in options if option), held=self._every - 1)

    def offer(self, absent: Collection[str]) -> None:
        """Do without what is ``absent``: an option that nobody named gives way to the next.

        Raises: AdaptiveVideoError if the option that was named, or all, are absent.
        """
        self._absent = absent
        if not self._named:
            _require_branches(self._variant.action_space, absent)
            kept = all(entry.graph not in absent for entry in self._branches_in_use)
            self.switch(self.option if kept else self._first())
        self.branches(self.option)

    def reset(self) -> None:
        """Nothing is remembered from one stream to the next."""


class RandomChoice:
    """A uniform draw in each group, the same for every stream; the policy still runs.

    So it differs from the learnt choice in nothing but the decision.
    """

    kind, price = "random", 0.0
    runs_policy = True

    def __init__(self, space: ActionSpace, seed: int) -> None:
        self._space = space
        self._seed = seed
        self.options = space.options
        self.offer(())
        self.reset()

    def decide(
        self, scores: Floats | None, price: float, allow_skip: bool, absent_views: Collection[str] = ()
    ) -> Decision:
        """One option of each group, drawn; where all skip and may not, a branch of one that is drawn too."""
        groups = self._space.groups
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
        return Decision(chosen, _held(chosen))

    def offer(self, absent: Collection[str]) -> None:
        """Draw among all options but those whose graph is ``absent``."""
        _require_branches(self._space, absent)
        self._absent = absent

    def reset(self) -> None:
        """Draw the same sequence again."""
        self._random = np.random.default_rng(self._seed)

    def _branches_of(self, group: Group, absent_views: Collection[str]) -> list[Option]:
        return [
            option
            for option in group.options
            if option.graph and option.graph not in self._absent and option.view not in absent_views
        ]

    def _one_of(self, offered: Sequence[Option]) -> Option:
        return offered[int(self._random.integers(len(offered)))]


def _skip_of(group: Group) -> Option | None:
    """A group's shortest skip."""
    return min((o for o in group.options if o.skip), key=lambda option: option.skip, default=None)


def _held(options: Sequence[Option]) -> int:
    """Steps held after a choice; while any group has a branch to run, the skips of the others hold none."""
    if not options or not all(option.skip for option in options):
        return 0
    return min(option.skip for option in options) - 1


class Scheduler:
    """One stream's decisions: choosing skip k gives no output, and holds the k - 1 steps after it.

    In a held step neither policy nor branch is run, and the policy's state stays as it is. Until the stream
    has its first output at least one group runs a branch, so there is an answer from the first frame on.
    """

    _held: int
    answered: bool
    """Whether the stream has had an output."""

    def __init__(self, chooser: Chooser) -> None:
        self.chooser = chooser
        self.reset()

    def idle(self) -> bool:
        """Whether this step is held; takes it off the steps still to be held."""
        if self._held == 0:
            return False
        self._held -= 1
        return True

    def decide(
        self, scores: Floats | None, price: float, absent_views: Collection[str] = ()
    ) -> tuple[Option, ...]:
        """The options of a step that is not held, at a price.

        ``scores`` (n,), None if the policy was not run.
        """
        decision = self.chooser.decide(scores, price, self.answered, absent_views)
        self._held = decision.held
        self.answered = self.answered or any(not option.skip for option in decision.options)
        return decision.options

    def reset(self) -> None:
        """Begin a new stream."""
        self._held = 0
        self.answered = False
        self.chooser.reset()


class StepFusion:
    """One step's logits from those of the groups that ran: weighted, see ``runtimes.spec.Fusion``."""

    def __init__(self, fusion: spec.Fusion, space: ActionSpace) -> None:
        # By option: what was chosen is a tuple of these.
        self._weights = {
            option.name: fusion.weights.get(group.name, 1.0)
            for group in space.groups
            for option in group.options
        }
        self._renormalised = fusion.renormalised

    def fuse(self, answers: Sequence[tuple[Option, Floats]]) -> Floats | None:
        """Logits (classes,) of ``answers`` (option, logits); None if there are none."""
        if not answers:
            return None
        if len(answers) == 1 and self._renormalised:
            return answers[0][1]  # its weight cancels
        weights = [self._weights[option.name] for option, _ in answers]
        total = sum(w * logits.astype(np.float64) for w, (_, logits) in zip(weights, answers, strict=True))
        return np.asarray(total / sum(weights) if self._renormalised else total)


class Fusion:
    """Softmax of the mean of the logits of the last ``window`` steps; steps without output age the window.

    When a window has aged past its last output, the last scores stand.
    """

    _logits: NDArray[np.float64] | None
    _filled: list[bool]
    _scores: NDArray[np.float64] | None
    _step: int

    def __init__(self, window: int) -> None:
        self._window = window
        self.reset()

    def update(self, logits: Floats | None) -> NDArray[np.float64] | None:
        """Take one step's ``logits`` (classes,), None for no output; scores (classes,), None before any.

        The same array comes back as long as the scores stand.
        """
        if self._logits is None:
            if logits is None:
                return None
            self._logits = np.zeros((self._window, len(logits)))
        slot = self._step % self._window
        self._step += 1
        if logits is None and not self._filled[slot]:
            return self._scores
        self._logits[slot] = 0.0 if logits is None else logits
        self._filled[slot] = logits is not None
        filled = sum(self._filled)
        if filled:
            self._scores = _softmax(np.add.reduce(self._logits, axis=0) / filled)
        return self._scores

    def reset(self) -> None:
        """Begin a new stream."""
        self._logits = None
        self._filled = [False] * self._window
        self._scores = None
        self._step = 0


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    # Ufuncs called as such: the array methods take a detour through Python, at every step of a stream.
    powers = logits - np.maximum.reduce(logits)
    np.exp(powers, out=powers)
    powers /= np.add.reduce(powers)
    return powers
