"""Which price is chosen from a curve."""

from __future__ import annotations

import pytest

from compiler.training.policy.price_selection import PricePoint, best_price


def curve(*entries: tuple[float, float, float, float]) -> list[PricePoint]:
    """Points of price, accuracy, log-likelihood and cost."""
    return [PricePoint(*entry) for entry in entries]


def test_half_the_highest_price_that_costs_next_to_nothing() -> None:
    assert best_price(curve((0.0, 0.9, -0.2, 1.0), (1.0, 0.9, -0.2, 0.5), (2.0, 0.8, -0.2, 0.2))) == 0.5


def test_no_more_than_saves() -> None:
    points = curve((0.0, 0.9, -0.2, 1.0), (1.0, 0.9, -0.2, 0.5), (2.0, 0.9, -0.2, 0.5), (5.0, 0.9, -0.2, 0.5))
    assert best_price(points) == 1.0


def test_the_likelihood_tells_before_there_are_mistakes() -> None:
    points = curve((0.0, 0.9, -0.2, 1.0), (1.0, 0.9, -0.205, 0.5), (2.0, 0.9, -0.23, 0.2))
    assert best_price(points) == 0.5


def test_a_price_that_helps_is_taken() -> None:
    assert best_price(curve((0.0, 0.9, -0.2, 1.0), (1.0, 0.95, -0.1, 0.5))) == 0.5


def test_the_last_of_the_saving_asks_for_no_price_far_out() -> None:
    assert best_price(curve((0.0, 0.9, -0.2, 1.0), (1.0, 0.9, -0.2, 0.52), (10.0, 0.9, -0.2, 0.5))) == 1.0


def test_costs_may_be_negative_where_a_skip_saves_runs_of_the_policy() -> None:
    points = curve((0.0, 0.9, -0.2, 0.1), (1.0, 0.9, -0.2, -0.1), (2.0, 0.9, -0.2, -0.3))
    assert best_price(points) == 1.0


@pytest.mark.parametrize("accuracy", [0.5, 0.89])
def test_nothing_is_free_where_every_price_costs(accuracy: float) -> None:
    assert best_price(curve((0.0, 0.9, -0.2, 1.0), (1.0, accuracy, -0.2, 0.5))) == 0.0
