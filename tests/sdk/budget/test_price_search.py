"""The price: the lowest that keeps to the allowance, without flapping."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sdk.budget.price_search import HIGHEST_PRICE, Powers, PriceSearch

Floats = NDArray[np.float64]


def two_options(dear_w: float, cheap_w: float, threshold: float = 2.0) -> Powers:
    """The expensive one below a threshold of the price, the cheap one above."""
    return lambda prices: np.where(prices < threshold, dear_w, cheap_w)


def smooth(highest_w: float = 10.0) -> Powers:
    return lambda prices: 1 + (highest_w - 1) / (1 + prices)


def settle(
    search: PriceSearch, watts: float, powers: Powers, seconds: int = 60, share: float = 1.0
) -> list[float]:
    prices = []
    for second in range(seconds):
        search.search(float(second), watts, share, 1.05 * watts, powers)
        prices.append(search.price)
    return prices


@given(st.floats(1.2, 9.5), st.floats(0, 20))
def test_the_allowance_is_used_and_kept(watts: float, start: float) -> None:
    search = PriceSearch(start)
    settle(search, watts, smooth())
    power_w = float(smooth()(np.array([search.price]))[0])
    assert 0.95 * watts <= power_w <= watts


def test_more_than_is_wanted_costs_nothing() -> None:
    search = PriceSearch(5.0)
    settle(search, 20.0, smooth())
    assert search.price == 0.0


def test_less_than_anything_takes_is_the_highest_price() -> None:
    search = PriceSearch(0.0)
    settle(search, 0.5, smooth())
    assert search.price == HIGHEST_PRICE


def test_a_dear_option_that_is_a_little_too_much_is_left_alone() -> None:
    """Its power is told a little differently every second, now above, now below the allowance."""
    random = np.random.default_rng(0)
    search, prices = PriceSearch(0.0), []
    for second in range(300):
        powers = two_options(5.0 * random.normal(1.0, 0.02), 2.0)
        search.search(float(second), 5.0, 1.0, 5.0, powers)
        prices.append(search.price)
    expensive = np.array(prices) < 2.0
    assert int(np.abs(np.diff(expensive.astype(int))).sum()) <= 5


def test_a_low_account_raises_the_price_at_once() -> None:
    search = PriceSearch(1.0)
    assert search.price_at(1.0) == search.price_at(0.5) == 1.0
    shares = [0.29, 0.2, 0.1, 0.01, 0.0, -1.0]
    raised = [search.price_at(share) for share in shares]
    assert raised == sorted(raised) and raised[0] > 1.0
    assert raised[-1] == pytest.approx(15.0)
    assert PriceSearch(0.0).price_at(0.0) > 0


def test_a_low_account_lowers_the_target() -> None:
    search = PriceSearch(0.0)
    settle(search, 5.0, smooth(), share=0.0)
    assert float(smooth()(np.array([search.price]))[0]) < 4.6


def test_what_stays_unused_is_aimed_for() -> None:
    """Whatever the forecast says, 10 % of the allowance are not used: the aim rises, by 15 % at most."""
    search = PriceSearch(0.0)
    for second in range(100):
        search.search(float(second), 5.0, 1.0, 5.0, smooth(), used_w=4.5)
    assert 5.2 < float(smooth()(np.array([search.price]))[0]) <= 5.0 * 1.15
