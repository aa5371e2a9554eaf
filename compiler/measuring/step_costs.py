"""What whole steps take by a cost table: the graphs that ran, and the views rendered once for them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from runtimes.spec import CostTable, Option, Policy

Costs = NDArray[np.float64]
"""(2,) ms and mJ; mJ is not a number where the energy of a part was not measured."""


class StepCosts:
    """Adds up a table's rows."""

    def __init__(self, table: CostTable) -> None:
        self._table = table

    def of_policy(self, policy: Policy) -> Costs:
        """One run of a policy, with all its views. Raises: KeyError."""
        return self._run(policy.graph, policy.views[0]) + sum(map(self._view, policy.views))

    def of_branches(self, options: Sequence[Option], rendered: Collection[str] = ()) -> Costs:
        """A step that runs these branches; the views ``rendered`` are there already. Raises: KeyError."""
        views = {option.view for option in options if option.view} - set(rendered)
        runs = [self._run(option.graph, option.view) for option in options if option.graph and option.view]
        return np.sum([np.zeros(2), *runs, *map(self._view, sorted(views))], axis=0)

    def _run(self, graph: str, view: str) -> Costs:
        return _both(self._table.run_ms, self._table.run_mj, graph, view)

    def _view(self, view: str) -> Costs:
        return _both(self._table.view_ms, self._table.view_mj, view)


def _both(ms: Callable[..., float], mj: Callable[..., float | None], *row: str) -> Costs:
    energy = mj(*row)
    return np.array([ms(*row), np.nan if energy is None else energy])
