"""The choice by a policy's scores: the largest ``score - price * cost`` of each group.

``models/rollout`` has the same rule in torch, for training; a test holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from runtimes.spec import Option
from sdk.decisions.decision import Context, Decision, Plan
from sdk.decisions.option_costs import OptionCosts, PricedOption

_FIRST_PRICE, _PROHIBITIVE = 0.1, 1e4
"""Prices tried where a choice takes more than a limit leaves: the first, and where the search ends."""


def decide(
    scores: NDArray[np.floating], plan: Plan, context: Context, absent_graphs: Collection[str] = ()
) -> Decision:
    """The largest ``score - price * cost`` of each group.

    scores: (n,) over all options, group after group. Ties go to the cheaper option, then to the earlier.
    Where all groups would skip and may not, the one whose best branch gives up least runs it. Where the
    options take more than a limit leaves, they are those of the next of ever higher prices that do not, or
    the cheapest. Options whose graph is among the ``absent_graphs`` are not chosen.
    """
    if plan.costs is None:
        raise ValueError("a choice by scores needs the costs of the options")
    price, costs = plan.price, plan.costs
    options = _choose(scores, costs, price, context, absent_graphs)
    while price < _PROHIBITIVE and any(limit.exceeded(options) for limit in plan.limits):
        price = max(2 * price, _FIRST_PRICE)
        options = _choose(scores, costs, price, context, absent_graphs)
    return Decision(options, held_steps(options), plan.price, context.allow_skip)


def _choose(
    scores: NDArray[np.floating],
    costs: OptionCosts,
    price: float,
    context: Context,
    absent_graphs: Collection[str],
) -> tuple[Option, ...]:
    # Plain floats: after a branch has run nothing is left in the processor's caches, and each numpy call
    # is slower than all of this.
    values, absent_views = scores.tolist(), context.absent_views

    def value(entry: PricedOption) -> float:
        return values[entry.place] - price * entry.cost

    chosen: list[Option] = []
    sacrifices: list[tuple[float, int, Option]] = []
    for group in costs.groups:
        available = [
            entry
            for entry in group
            if entry.option.view not in absent_views and entry.option.graph not in absent_graphs
        ]
        branches = [entry for entry in available if not entry.option.skip]
        if not branches:  # what cannot run keeps no other group from skipping
            chosen += _longest_skip(available)
            continue
        # Groups are ordered cheapest first, and ``max`` keeps the first of equals.
        best = max(available, key=value)
        if best.option.skip:
            branch = max(branches, key=value)
            sacrifices.append((value(best) - value(branch), len(chosen), branch.option))
        chosen.append(best.option)
    if not context.allow_skip and sacrifices and all(option.skip for option in chosen):
        _, where, branch_option = min(sacrifices, key=lambda entry: entry[0])
        chosen[where] = branch_option
    return tuple(chosen)


def _longest_skip(skips: Sequence[PricedOption]) -> list[Option]:
    """The longest of a group's skips; nothing if it has none."""
    return [max(skips, key=lambda entry: entry.option.skip).option] if skips else []


def held_steps(options: Sequence[Option]) -> int:
    """Steps held after a choice; while any group has a branch to run, the skips of the others hold none."""
    if not options or not all(option.skip for option in options):
        return 0
    return min(option.skip for option in options) - 1
