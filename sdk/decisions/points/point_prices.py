"""Which points of a front a price, or a mean cost, leads to, at what they cost on this device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtimes.spec import CostTable, OperatingFront, OperatingPoint
from sdk.decisions.points.hull import hull, sharing
from sdk.decisions.points.point_turns import PointTurns


@dataclass(frozen=True, eq=False)
class PointPrices:
    """A front and what its points cost a clip on this device: ms (points,), and mJ where all is known."""

    front: OperatingFront
    ms: NDArray[np.float64]
    mj: NDArray[np.float64] | None
    dense: float
    """Of the dense point, in mJ if these are known, else in ms."""

    @classmethod
    def of(cls, front: OperatingFront, table: CostTable) -> PointPrices:
        """By a device's table. Raises: KeyError if that lacks a graph or view of a point."""
        ms = np.array([_cost(point, table, "ms") for point in front.points])
        energies = [_cost(point, table, "mj") for point in front.points]
        mj = None if np.isnan(energies).any() else np.array(energies)
        return cls(front, ms, mj, _cost(front.dense, table, "ms" if mj is None else "mj"))

    def choose(self, price: float) -> OperatingPoint:
        """The point of the largest probability of the true class less price times relative cost.

        The cost is relative to the dense point's: at price 0.1 what saves all of that may cost a tenth of the
        probability. Ties go to the cheaper point. It never costs more at a higher price.
        """
        costs = self.relative_costs
        worth = np.array(self._true_probabilities) - price * costs
        best = np.flatnonzero(worth >= worth.max() - 1e-12)
        return self.front.points[min(best, key=lambda place: costs[place])]

    @property
    def relative_costs(self) -> NDArray[np.float64]:
        """Of a clip of each point (points,), the dense point's being 1."""
        return (self.ms if self.mj is None else self.mj) / (self.dense or 1.0)

    def share_turns(self, cost_share: float) -> PointTurns:
        """The two points that, in turn, cost this share of the dense point's cost on average."""
        costs, points = self.relative_costs, self.front.points
        one, other, share = sharing(costs, hull(costs, self._true_probabilities), cost_share)
        return PointTurns(points[one], points[other], share)

    @property
    def _true_probabilities(self) -> list[float]:
        return [point.true_probability.mean for point in self.front.points]


def _cost(point: OperatingPoint, table: CostTable, unit: str) -> float:
    """Of one clip; not a number where the energy of a part is not known. Raises: KeyError."""
    total = 0.0
    for part, runs in point.runs.items():
        total += runs * _part_cost(part, table, unit)
    return total


def _part_cost(part: str, table: CostTable, unit: str) -> float:
    graph, is_graph, view = part.partition("@")
    if unit == "ms":
        return table.run_ms(graph, view) if is_graph else table.view_ms(part)
    energy = table.run_mj(graph, view) if is_graph else table.view_mj(part)
    return np.nan if energy is None else energy
