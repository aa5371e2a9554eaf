"""What each option of a variant costs to run, and the relative costs that a choice goes by."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtimes.spec import ActionSpace, CostTable, Option, Variant

Floats = NDArray[np.floating]


class PricedOption(NamedTuple):
    """An option with its place among the policy's scores, and its relative cost."""

    place: int
    cost: float
    option: Option


@dataclass(frozen=True, eq=False, slots=True)
class OptionCosts:
    """The relative costs of all options, in the form that a choice reads fastest.

    ``relative`` (n,): in units of the most expensive option's cost. ``groups``: each group's options, the
    cheapest first, of equally expensive ones the earlier: the order in which ties are won.
    """

    relative: Floats
    groups: tuple[tuple[PricedOption, ...], ...]

    @classmethod
    def of(cls, space: ActionSpace, costs: Floats) -> OptionCosts:
        """From costs (n,) in any unit; all zero where none costs anything."""
        relative = relative_costs(costs)
        entries = zip(range(len(relative)), relative.tolist(), space.options, strict=True)
        priced = [PricedOption(*entry) for entry in entries]
        groups = (sorted(priced[where], key=lambda entry: entry.cost) for where in space.slices)
        return cls(relative, tuple(map(tuple, groups)))


def relative_costs(costs: Floats) -> Floats:
    """Costs (n,) in units of the most expensive; zeros if all are."""
    highest = costs.max()
    return costs / highest if highest > 0 else np.zeros(len(costs))


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
    return net_costs(variant.action_space, run_costs(variant, table) if energies is None else energies)


def net_costs(space: ActionSpace, runs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Costs of options (n,), from those of runs (1 + n,), less the runs of the policy that skips save."""
    return runs[1:] - np.array(space.saved_runs) * runs[0]


def most_expensive_choice(variant: Variant, costs: Floats) -> str:
    """Each group's most expensive branch at the ``costs`` (n,) of all options, by name, joined by ``+``."""
    names = []
    for group, where in zip(variant.action_space.groups, variant.action_space.slices, strict=True):
        branches = [(float(c), o) for c, o in zip(costs[where], group.options, strict=True) if not o.skip]
        names.append(max(branches, key=lambda pair: pair[0])[1].name)
    return "+".join(names)
