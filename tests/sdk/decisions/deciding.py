"""A small action space, and short ways to decide in it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from runtimes.spec import ActionSpace, Group, Option, Variant
from sdk.decisions.choice import decide
from sdk.decisions.choosers import Chooser
from sdk.decisions.decision import Context, Decision, Observation, Plan
from sdk.decisions.decision_loop import DecisionLoop
from sdk.decisions.option_costs import Floats, OptionCosts
from tests.runtimes.bundles import manifest_fields


def branch(name: str) -> Option:
    return Option(name=name, graph="net", view="rgb84", precision="int8")


LARGE, SMALL, SKIP2, SKIP4 = (
    branch("large"),
    branch("small"),
    Option(name="skip2", skip=2),
    Option(name="skip4", skip=4),
)
SPACE = ActionSpace(groups=(Group(name="step", options=(LARGE, SMALL, SKIP2, SKIP4)),))
COSTS = np.array([8.0, 2.0, 0.0, 0.0])


def arnet() -> Variant:
    return manifest_fields()["variants"][1]  # type: ignore[no-any-return]


def choose(
    scores: Floats, space: ActionSpace, costs: Floats, price: float, allow_skip: bool
) -> tuple[Option, ...]:
    """The options that the scores choose at a price."""
    return decide(scores, Plan(price, OptionCosts.of(space, costs)), Context(allow_skip)).options


def choice_of(
    chooser: Chooser,
    scores: Floats | None = None,
    price: float = 0.0,
    allow_skip: bool = True,
    absent_views: Collection[str] = (),
) -> Decision:
    """A chooser's decision at a price."""
    return chooser.decide(
        scores, replace(chooser.standing_plan, price=price), Context(allow_skip, absent_views)
    )


def step(
    loop: DecisionLoop, scores: list[float] | None = None, absent_views: Collection[str] = ()
) -> Decision:
    """One step of a loop."""
    return loop.decide(Observation(None if scores is None else np.array(scores, np.float64), absent_views))
