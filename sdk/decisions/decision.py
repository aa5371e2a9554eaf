"""The values of a decision: what it is planned by, what it is made in view of, and what it comes to."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from runtimes.spec import Option
from sdk.decisions.option_costs import OptionCosts
from sdk.results import ASLEEP, HELD, NOTHING, THROTTLED

Scores = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Limit:
    """What the options of a step may take together, such as ms or joules.

    ``left``: how much; ``takes``: what each option takes, by its name. An option of which nothing is known
    takes nothing.
    """

    left: float = math.inf
    takes: Mapping[str, float] = field(default_factory=dict)

    def exceeded(self, options: Sequence[Option]) -> bool:
        """Whether these options take more than is left."""
        return sum(self.takes.get(option.name, 0.0) for option in options) > self.left


@dataclass(frozen=True, slots=True)
class Plan:
    """What a step is decided by.

    ``price``: the score that the most expensive option must earn more than one that costs nothing; the
    policy's input too. ``costs`` of the options; None where the choice does not go by costs. ``limits``: what
    the chosen options may take at most. ``throttled``: run nothing at this step, for the budget's sake.
    ``point``: the operating point that runs; None for the policy at ``price``, or what else is chosen by.
    """

    price: float = 0.0
    costs: OptionCosts | None = None
    limits: tuple[Limit, ...] = ()
    throttled: bool = False
    point: str | None = None


@dataclass(frozen=True, slots=True)
class Context:
    """What a step's choice has to respect.

    ``allow_skip``: whether all groups may skip; else at least one runs a branch. ``absent_views``: views that
    this step lacks; options on them are not chosen.
    """

    allow_skip: bool = True
    absent_views: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Observation:
    """What is seen of a step before its options are chosen.

    ``scores`` (n,) of the policy over all options, None where it was not run; ``absent_views``: views that
    the step lacks.
    """

    scores: Scores | None = None
    absent_views: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """What a step runs.

    ``options``: one of each group; a group whose views are all absent gives a skip (its longest, and of a
    fixed choice its shortest), or nothing if it has none. ``holds``: how many steps after this one are held.
    ``held``: an earlier skip holds this step; ``throttled``: the budget does. Nothing is run at either.
    ``asleep``: a watch holds it (and a budget too, if it is throttled); ``anew``: it woke here, and what was
    fused before is another event's. ``price`` and ``allow_skip``: what it was decided by.
    """

    options: tuple[Option, ...]
    holds: int = 0
    price: float = 0.0
    allow_skip: bool = True
    held: bool = False
    throttled: bool = False
    asleep: bool = False
    anew: bool = False

    @property
    def name(self) -> str:
        """What was chosen: names of options joined by ``+``, or one of the words of ``sdk.results``."""
        if self.options:
            return "+".join(option.name for option in self.options)
        if self.asleep and not self.throttled:
            return ASLEEP
        return HELD if self.held else THROTTLED if self.throttled else NOTHING
