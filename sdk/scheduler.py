"""What is worth computing at a step: the choice among the options, the steps a skip holds, and the fusion.

Plain numpy, used both on the device and by the compiler's evaluation, so that both decide alike.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runtimes.errors import AdaptiveVideoError
from runtimes.spec import ActionSpace, CostTable, Group, Option, Variant

Floats = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Decision:
    """The options chosen at a step, at most one per group, and how many steps after it are held."""

    options: tuple[Option, ...]
    held: int


class Chooser(Protocol):
    """How the options of a step are chosen."""

    runs_policy: bool
    """Whether the policy graph is run before the choice."""
    options: tuple[Option, ...]
    """All that may be chosen, now or when their graphs have come."""

    def decide(self, scores: Floats | None, allow_skip: bool) -> Decision:
        """Choose by the policy's ``scores`` (n,), None where it was not run."""
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
    scores: Floats, space: ActionSpace, costs_ms: Floats, price: float, allow_skip: bool
) -> tuple[Option, ...]:
    """The best option of each group: the largest ``score - price * cost``.

    scores: (n,) over all options, group after group; costs_ms: (n,) ms; price: score per ms. Ties go to the
    cheaper option, then to the earlier. Without ``allow_skip`` no skip is on offer.
    """
    return _choose(scores, _cheapest_first(space, costs_ms), price, allow_skip)


Priced = tuple[int, float, Option]
"""An option with its place among the scores, and its cost (ms)."""


def _cheapest_first(
    space: ActionSpace, costs_ms: Floats, absent: Collection[str] = ()
) -> list[tuple[list[Priced], list[Priced]]]:
    """Each group's options by cost, then by place: all of them, and those that are no skip.

    Those whose graph is ``absent`` are left out.
    """
    priced = list(zip(range(len(costs_ms)), costs_ms.tolist(), space.options, strict=True))
    orders, first = [], 0
    for group in space.groups:
        entries = priced[first : first + len(group.options)]
        order = sorted((e for e in entries if e[2].graph not in absent), key=lambda entry: entry[1])
        orders.append((order, [entry for entry in order if not entry[2].skip]))
        first += len(group.options)
    return orders


def _choose(
    scores: Floats, orders: list[tuple[list[Priced], list[Priced]]], price: float, allow_skip: bool
) -> tuple[Option, ...]:
    # Plain floats: after a branch has run nothing is left in the processor's caches, and each numpy call
    # is slower than all of this.
    values = scores.tolist()
    chosen = []
    for order, branches in orders:
        best, most = None, -math.inf
        for place, cost, option in order if allow_skip else branches:
            value = values[place] - price * cost
            if best is None or value > most:
                best, most = option, value
        assert best is not None, "a group has a branch"
        chosen.append(best)
    return tuple(chosen)


def _require_branches(space: ActionSpace, absent: Collection[str]) -> None:
    """Raises: AdaptiveVideoError if a group has no branch but such whose graph is ``absent``."""
    for group in space.groups:
        graphs = {option.graph for option in group.options if option.graph}
        if graphs <= set(absent):
            reason = f"none of its graphs ({', '.join(sorted(graphs))}) is there"
            raise AdaptiveVideoError(f"group {group.name}", reason, "fetch the bundle's missing files")


def option_costs(variant: Variant, table: CostTable) -> NDArray[np.float64]:
    """Cost of each option in ms, (n,): resizing to its view and running its graph.

    The policy's own head and skips cost nothing more, and the policy's view is rendered already.

    Raises: KeyError if the table lacks a graph or view.
    """
    return np.array([_option_cost(option, variant, table) for option in variant.action_space.options])


def _option_cost(option: Option, variant: Variant, table: CostTable) -> float:
    if option.graph is None or option.view is None or variant.is_head(option):
        return 0.0
    cost = table.graph_ms(option.graph, option.view)
    if variant.policy is not None and option.view == variant.policy.view:
        cost -= {row.view: row.p50_ms for row in table.views}[option.view]
    return cost


class LearntChoice:
    """The policy's choice at a price, which may be changed at any time."""

    runs_policy = True

    def __init__(self, space: ActionSpace, costs_ms: Floats, price: float = 0.0) -> None:
        self._space, self._costs_ms = space, costs_ms
        self.options = space.options
        self.price = price
        self.offer(())

    def decide(self, scores: Floats | None, allow_skip: bool) -> Decision:
        """The largest ``score - price * cost`` of each group."""
        if scores is None:
            raise ValueError("the learnt choice needs the policy's scores")
        options = _choose(scores, self._orders, self.price, allow_skip)
        return Decision(options, _held(options))

    def offer(self, absent: Collection[str]) -> None:
        """Offer all options but those whose graph is ``absent``; however high they score."""
        _require_branches(self._space, absent)
        self._orders = _cheapest_first(self._space, self._costs_ms, absent)

    def reset(self) -> None:
        """Nothing is remembered from one stream to the next."""


class FixedChoice:
    """The same option at every ``every``-th step; the policy runs only if the option is its own head.

    Another option may be named between two steps. Of a variant without a policy all options are kept open,
    so that a switch waits for nothing; of others just those that were named.
    """

    def __init__(self, variant: Variant, option: str | None = None, every: int = 1) -> None:
        """``option`` None is the first. Raises: AdaptiveVideoError as ``switch``, and for ``every`` < 1."""
        if every < 1:
            raise AdaptiveVideoError(f"every {every}", "is not a number of steps", "use 1 or more")
        self._variant = variant
        self._branches = {entry.name: entry for entry in variant.action_space.options if not entry.skip}
        self._every = every
        self._named = option is not None
        self._absent: Collection[str] = ()
        self.options: tuple[Option, ...] = () if variant.policy else tuple(self._branches.values())
        self.switch(option or next(iter(self._branches)))

    @property
    def option(self) -> str:
        """The option in use."""
        return self._decision.options[0].name

    def branch(self, option: str) -> Option:
        """The branch of this name. Raises: AdaptiveVideoError if there is none, or its graph is not there."""
        if option not in self._branches:
            reason = f"is no branch of variant {self._variant.name}"
            raise AdaptiveVideoError(f"option {option}", reason, f"use one of {', '.join(self._branches)}")
        graph = self._branches[option].graph
        if graph in self._absent:
            mend = "fetch the bundle's missing files, or fix another option"
            raise AdaptiveVideoError(f"option {option}", f"its graph {graph} is not there", mend)
        return self._branches[option]

    def switch(self, option: str) -> None:
        """Use another option from the next step on. Raises: AdaptiveVideoError if it is no branch."""
        chosen = self.branch(option)
        if chosen not in self.options:
            self.options = (*self.options, chosen)
        self.runs_policy = self._variant.is_head(chosen)
        self._decision = Decision((chosen,), held=self._every - 1)

    def decide(self, scores: Floats | None, allow_skip: bool) -> Decision:
        """Always the same."""
        return self._decision

    def offer(self, absent: Collection[str]) -> None:
        """Do without what is ``absent``: an option that nobody named gives way to the next.

        Raises: AdaptiveVideoError if the option that was named, or all, are absent.
        """
        self._absent = absent
        if not self._named:
            _require_branches(self._variant.action_space, absent)
            there = [name for name, entry in self._branches.items() if entry.graph not in absent]
            self.switch(self.option if self.option in there else there[0])
        self.branch(self.option)

    def reset(self) -> None:
        """Nothing is remembered from one stream to the next."""


class RandomChoice:
    """A uniform draw in each group, the same for every stream; the policy still runs.

    So it differs from the learnt choice in nothing but the decision.
    """

    runs_policy = True

    def __init__(self, space: ActionSpace, seed: int) -> None:
        self._space = space
        self._seed = seed
        self.options = space.options
        self.offer(())
        self.reset()

    def decide(self, scores: Floats | None, allow_skip: bool) -> Decision:
        """One option of each group, drawn."""
        options = tuple(self._draw(group, allow_skip) for group in self._space.groups)
        return Decision(options, _held(options))

    def offer(self, absent: Collection[str]) -> None:
        """Draw among all options but those whose graph is ``absent``."""
        _require_branches(self._space, absent)
        self._absent = absent

    def reset(self) -> None:
        """Draw the same sequence again."""
        self._random = np.random.default_rng(self._seed)

    def _draw(self, group: Group, allow_skip: bool) -> Option:
        offered = [
            option
            for option in group.options
            if option.graph not in self._absent and (allow_skip or not option.skip)
        ]
        return offered[int(self._random.integers(len(offered)))]


def _held(options: Sequence[Option]) -> int:
    """Steps held after a choice; while any group has a branch to run, the skips of the others hold none."""
    return min(option.skip for option in options) - 1 if all(option.skip for option in options) else 0


class Scheduler:
    """One stream's decisions: choosing skip k gives no output, and holds the k - 1 steps after it.

    In a held step neither policy nor branch is run, and the policy's state stays as it is. Skips are not on
    offer until the stream has its first output, so there is an answer from the first frame on.
    """

    _held: int
    _answered: bool

    def __init__(self, chooser: Chooser) -> None:
        self.chooser = chooser
        self.reset()

    def idle(self) -> bool:
        """Whether this step is held; takes it off the steps still to be held."""
        if self._held == 0:
            return False
        self._held -= 1
        return True

    def decide(self, scores: Floats | None) -> tuple[Option, ...]:
        """The options of a step that is not held; ``scores`` (n,) or None if the policy was not run."""
        decision = self.chooser.decide(scores, self._answered)
        self._held = decision.held
        self._answered = self._answered or any(not option.skip for option in decision.options)
        return decision.options

    def reset(self) -> None:
        """Begin a new stream."""
        self._held = 0
        self._answered = False
        self.chooser.reset()


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
