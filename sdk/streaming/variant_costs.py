"""What a variant's options cost on this device, and the chooser that goes by it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtimes.bundle import Bundle
from runtimes.errors import ArgumentError, BundleError
from runtimes.spec import CostTable, Variant
from sdk.decisions.choosers import Chooser, FixedChoice, LearnedChoice, RandomChoice
from sdk.decisions.option_costs import option_costs


@dataclass(frozen=True, slots=True)
class VariantCosts:
    """A variant of a bundle, and the cost table that fits this device best; None if there is none."""

    bundle: Bundle
    variant: Variant
    table: CostTable | None

    def chooser(self, price: float | None, fixed: str | None, every: int, random_seed: int | None) -> Chooser:
        """How options are chosen, by a recognizer's arguments.

        Raises: ArgumentError for those that exclude each other; OptionError; BundleError without costs.
        """
        if fixed is not None and random_seed is not None:
            raise ArgumentError("fixed and random_seed", "exclude each other", "give one of them")
        if price is not None and (fixed is not None or random_seed is not None or not self.variant.policy):
            raise ArgumentError("price", "a fixed or random choice has none", "leave it out")
        if fixed is not None or self.variant.policy is None:
            return FixedChoice(self.variant, fixed, every)
        if random_seed is not None:
            return RandomChoice(self.variant.action_space, random_seed)
        if every != 1:
            raise ArgumentError(f"every {every}", "is for a fixed option", "give fixed too, or leave it out")
        chosen = self.checked_price(self.variant.price if price is None else price)
        return LearnedChoice(self.variant.action_space, self._option_costs(), chosen)

    def checked_price(self, price: float) -> float:
        """The price. Raises: ArgumentError if it is none; BundleError if no costs are known to put it on."""
        if isinstance(price, bool) or not isinstance(price, int | float) or not 0 <= price < float("inf"):
            raise ArgumentError(f"price {price}", "is not a price", "use 0 or more")
        if price and self.table is None:
            reason = "has no cost table, so no price can be put on its options"
            raise BundleError(self.bundle.location, reason, "run adaptive-bench on it, or use price 0")
        return price

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
