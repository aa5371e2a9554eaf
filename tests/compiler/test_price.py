"""Which price is chosen from a curve."""

from __future__ import annotations

import pytest

from compiler.price import Priced, best_price


def curve(*entries: tuple[float, float, float]) -> list[Priced]:
    return [Priced(price, accuracy, likelihood, cost=1.0) for price, accuracy, likelihood in entries]


def test_half_the_highest_that_costs_next_to_nothing() -> None:
    assert best_price(curve((0.0, 0.9, -0.2), (1.0, 0.9, -0.2), (2.0, 0.8, -0.2))) == 0.5


def test_the_likelihood_tells_before_there_are_mistakes() -> None:
    assert best_price(curve((0.0, 0.9, -0.2), (1.0, 0.9, -0.205), (2.0, 0.9, -0.22))) == 0.5


def test_a_price_that_helps_is_taken() -> None:
    assert best_price(curve((0.0, 0.9, -0.2), (1.0, 0.95, -0.1))) == 0.5


@pytest.mark.parametrize("accuracy", [0.5, 0.89])
def test_nothing_is_free_where_every_price_costs(accuracy: float) -> None:
    assert best_price(curve((0.0, 0.9, -0.2), (1.0, accuracy, -0.2))) == 0.0
