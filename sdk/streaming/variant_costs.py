"""What a variant's options cost on this device, and the chooser that goes by it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtimes.bundle import Bundle
from runtimes.errors import ArgumentError, BundleError
from runtimes.spec import CostTable, OperatingFront, OperatingPoint, Option, Variant
from sdk.decisions.choosers import Chooser, FixedChoice, LearnedChoice, RandomChoice
from sdk.decisions.option_costs import option_costs
from sdk.decisions.points.front_choice import FrontChoice, point_named
from sdk.decisions.points.point_prices import PointPrices
from sdk.decisions.points.point_turns import PointTurns

HIGHEST_PRICE = 1e4
"""Above it only the cheapest options are chosen, whatever they score."""


@dataclass(frozen=True, slots=True)
class VariantCosts:
    """A variant of a bundle, and the cost table that fits this device best; None if there is none."""

    bundle: Bundle
    variant: Variant
    table: CostTable | None

    def chooser(
        self,
        price: float | None,
        fixed: str | None,
        every: int,
        random_seed: int | None,
        point: str | None = None,
        cost_share: float | None = None,
        *,
        along_points: bool = False,
    ) -> Chooser:
        """How options are chosen, by a recognizer's arguments.

        ``along_points``: something else (a budget, a watch) is for operating points, if there are any.

        Raises: ArgumentError for those that exclude each other; OptionError; BundleError without costs.
        """
        given = {"point": point, "price": price, "cost_share": cost_share}
        given |= {"fixed": fixed, "random_seed": random_seed}
        named = [name for name, value in given.items() if value is not None]
        self._require_sense(named, every)
        if fixed is not None:
            return FixedChoice(self.variant, fixed, every)
        if random_seed is not None and self.variant.policy is not None:
            return RandomChoice(self.variant.action_space, random_seed)
        # Without a policy the app chooses, unless it asks for anything that points are chosen by.
        if self.front is not None and (self.variant.policy is not None or named or along_points):
            return self._along(self.front, price, point)
        if self.variant.policy is None:
            return FixedChoice(self.variant, None, every)
        chosen = self.checked_price(self.variant.price if price is None else price)
        return LearnedChoice(self.variant.action_space, self._option_costs(), chosen)

    def _require_sense(self, named: Sequence[str], every: int) -> None:
        """Raises: ArgumentError for arguments that exclude each other, or have no use for this variant."""
        has_policy, has_points = self.variant.policy is not None, self.front is not None
        if "price" in named and ("fixed" in named or "random_seed" in named):
            raise ArgumentError("price", "a fixed or random choice has none", "leave it out")
        if len(named) > 1:
            raise ArgumentError(" and ".join(named), "exclude each other", "give one of them")
        if every != 1 and named != ["fixed"] and (named or has_policy):
            raise ArgumentError(f"every {every}", "is for a fixed option", "give fixed too, or leave it out")
        if named in (["point"], ["cost_share"]) and not has_points:
            reason = f"variant {self.variant.name} of this bundle has no operating points"
            raise ArgumentError(named[0], reason, "compile again, or give price or fixed")
        if named == ["price"] and not has_points and not has_policy:
            raise ArgumentError("price", "a fixed or random choice has none", "leave it out")

    def checked_price(self, price: float) -> float:
        """The price. Raises: ArgumentError if it is none; BundleError if no costs are known to put it on."""
        number = isinstance(price, int | float) and not isinstance(price, bool)
        if not number or not 0 <= price <= HIGHEST_PRICE:
            raise ArgumentError(f"price {price}", "is not a price", f"use 0 to {HIGHEST_PRICE:g}")
        if price and self.table is None:
            reason = "has no cost table, so no price can be put on its options"
            raise BundleError(self.bundle.location, reason, "run adaptive-bench on it, or use price 0")
        return price

    @property
    def front(self) -> OperatingFront | None:
        """The variant's operating points, if it has any that can be run by what is known here."""
        return self.bundle.manifest.front(self.variant.name)

    def point_at(self, price: float) -> OperatingPoint:
        """The point of the front that a price leads to. Raises: BundleError without costs."""
        return self._point_prices().choose(price)

    def turns_at(self, cost_share: float) -> PointTurns:
        """The points that in turn cost a share of the dense cost on average.

        Raises: ArgumentError if it is no share; BundleError without costs.
        """
        number = isinstance(cost_share, int | float | np.floating) and not isinstance(cost_share, bool)
        if not number or not 0 < cost_share <= 1:
            raise ArgumentError(f"cost_share {cost_share}", "is not a share", "use more than 0, at most 1")
        return self._point_prices().share_turns(cost_share)

    def _point_prices(self) -> PointPrices:
        front = self.front
        assert front is not None, "only a variant with a front has points"
        with self.complete() as table:
            if table is None:
                reason = "has no cost table, so no price can be put on its points"
                raise BundleError(self.bundle.location, reason, "run adaptive-bench on it")
            return PointPrices.of(front, table)

    def _along(self, front: OperatingFront, price: float | None, point: str | None) -> FrontChoice:
        manifest, policy = self.bundle.manifest, self.variant.policy
        costs = self._option_costs() if policy is not None else np.zeros(len(self._options))
        graph = None if policy is None else policy.graph
        chooser = FrontChoice(self.variant.action_space, costs, front, manifest.steps.clip_steps, graph)
        if point is not None:
            chooser.stand_at(point_named(front, point), 0.0, named=True)
        elif price is not None:
            price = self.checked_price(price)
            chooser.stand_at(self.point_at(price), price)
        return chooser

    @property
    def _options(self) -> tuple[Option, ...]:
        return self.variant.action_space.options

    @contextmanager
    def complete(self) -> Iterator[CostTable | None]:
        """The table, while it is used. Raises: BundleError if it turns out to lack something."""
        try:
            yield self.table
        except KeyError as error:
            device = self.table.device if self.table else "no device"
            reason = f"the cost table of {device} lacks {error}"
            raise BundleError(self.bundle.location, reason, "run adaptive-bench on it") from None

    def _option_costs(self) -> NDArray[np.float64]:
        with self.complete() as table:
            if table is None:  # then the price is 0, and no cost counts
                return np.zeros(len(self.variant.action_space.options))
            return option_costs(self.variant, table)
