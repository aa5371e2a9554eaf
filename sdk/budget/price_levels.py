"""The prices of a policy as ways to run: for variants that have no operating points."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from runtimes.spec import ActionSpace, PriceResponse
from sdk.budget.power_level import Device, Floats, PowerLevel
from sdk.budget.power_model import PowerModel
from sdk.decisions.trace import StepTrace

HIGHEST_PRICE = 50.0
"""Above the range that policies are trained for: only the cheapest options are left."""
_PRICES = np.concatenate([[0.0], np.geomspace(0.03, HIGHEST_PRICE, 19)])[::-1]
_LONGEST_FALL, _SMALL = 0.35, 0.1
"""To what share of itself, less a little, the price falls at most in one move."""


class PriceLevels:
    """What the remembered decisions would have taken at each of some prices."""

    def __init__(self, space: ActionSpace, response: PriceResponse | None = None) -> None:
        self._model = PowerModel(space, response)

    @property
    def known(self) -> bool:
        """Whether any decision is remembered."""
        return len(self._model) > 0

    def predict(self, device: Device, current: PowerLevel | None) -> Sequence[PowerLevel]:
        """By falling price; far below the current one the prediction is a guess, and nothing is offered."""
        prices = _PRICES
        if current is not None:
            prices = prices[prices >= min(_LONGEST_FALL * current.price - _SMALL, HIGHEST_PRICE)]
        energies_j, steps = self._model.energies(device.costs, device.energies_j)(prices)
        powers_w = device.base_w + energies_j / (steps * device.step_s)
        rising_w = np.maximum.accumulate(powers_w).tolist()
        return [PowerLevel(power_w, price) for power_w, price in zip(rising_w, prices.tolist(), strict=True)]

    def first(self, app_price: float, energies: Floats) -> PowerLevel:
        """The app's price."""
        return PowerLevel(0.0, app_price)

    def standing(self, price: float, point: str | None) -> PowerLevel:
        """The app's price."""
        return PowerLevel(0.0, price)

    def is_clip(self, steps: int | None) -> bool:
        """Never: each step has its own choice."""
        return False

    def observe(self, now_s: float, trace: StepTrace) -> None:
        """Remember a decision."""
        if trace.scores is not None:
            self._model.remember(now_s, trace.scores, trace.absent_views, trace.decision.price)

    def restrict(self, graphs: Collection[str], left_ms: float, takes_ms: Floats) -> None:
        """Nothing: each choice itself leaves out what is absent or takes too long."""
