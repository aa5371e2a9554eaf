"""The price as the policy takes it."""

from __future__ import annotations

import pytest

from models.policies.conditioning import PRICE_TOP
from tests.models.small_arnet import small_model


def test_prices_of_the_code_go_from_none_to_the_top() -> None:
    prices = small_model().policy.price_code.prices
    assert prices[0] == 0.0 and prices[-1] == pytest.approx(PRICE_TOP)
    assert list(prices) == sorted(prices)
