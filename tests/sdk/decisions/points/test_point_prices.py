"""Which point a price leads to, at a device's own costs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.spec import CostTable, GraphCost, Interval, LookFusion, OperatingFront, OperatingPoint, ViewCost
from sdk.decisions.points.point_prices import PointPrices

FUSION = LookFusion(scales={"big": 1.0}, weights={"big": 1.0}, exponent=0.5)


def point(count: int, probability: float) -> OperatingPoint:
    known = Interval(mean=probability, low=probability, high=probability)
    return OperatingPoint(
        name=f"big x {count}",
        kind="schedule",
        looks=("big",) * count,
        runs={"net@rgb": count, "rgb": count},
        accuracy=known,
        true_probability=known,
        ms=float(count),
    )


def front(*probabilities: float) -> OperatingFront:
    points = tuple(point(2**place, one) for place, one in enumerate(probabilities))
    return OperatingFront(
        variant="int8",
        fusion=FUSION,
        points=points,
        default=points[0].name,
        dense=points[-1],
        judged_on="none",
    )


def table(run_ms: float, view_ms: float, run_mj: float | None = None) -> CostTable:
    graph = GraphCost(graph="net", view="rgb", p50_ms=run_ms, p95_ms=run_ms, energy_mj=run_mj)
    view = ViewCost(view="rgb", p50_ms=view_ms, p95_ms=view_ms, energy_mj=None if run_mj is None else 0.0)
    return CostTable(device="d", providers=("cpu",), threads=1, graphs=(graph,), views=(view,))


def test_by_hand() -> None:
    """Of 4 looks: .7 at a quarter of the cost, .8 at half, .82 at all."""
    prices = PointPrices.of(front(0.7, 0.8, 0.82), table(1.5, 0.5))
    assert prices.ms.tolist() == [2, 4, 8] and prices.mj is None
    names = [prices.choose(price).name for price in (0.0, 0.039, 0.041, 0.39, 0.41, 10.0)]
    assert names == ["big x 4", "big x 4", "big x 2", "big x 2", "big x 1", "big x 1"]


def test_energy_goes_before_time() -> None:
    assert PointPrices.of(front(0.7, 0.8), table(1.0, 0.0, 3.0)).dense == 6.0


@given(
    st.lists(st.floats(0.01, 0.99), min_size=1, max_size=5, unique=True),
    st.floats(0, 5),
    st.floats(0, 5),
)
def test_a_higher_price_never_costs_more(probabilities: list[float], one: float, other: float) -> None:
    prices = PointPrices.of(front(*sorted(probabilities)), table(1.0, 0.1))
    low, high = sorted((one, other))
    cost = {p.name: c for p, c in zip(prices.front.points, prices.ms, strict=True)}
    assert cost[prices.choose(high).name] <= cost[prices.choose(low).name] + 1e-9


def test_a_table_without_a_row() -> None:
    odd = front(0.7)
    lacking = odd.model_copy(
        update={"points": (odd.points[0].model_copy(update={"runs": {"other@rgb": 1.0}}),)}
    )
    with pytest.raises(KeyError):
        PointPrices.of(lacking, table(1.0, 0.1))
    assert np.isfinite(PointPrices.of(odd, table(1.0, 0.1)).dense)


@given(st.floats(0.01, 1.0), st.integers(1, 60))
def test_turns_cost_their_share_after_any_number_of_clips(share: float, clips: int) -> None:
    """Costs of the points: 1/4, 1/2 and 1 of the dense one's."""
    prices = PointPrices.of(front(0.7, 0.8, 0.82), table(1.0, 0.0))
    turns = prices.share_turns(share)
    relative = dict(zip([one.name for one in prices.front.points], prices.relative_costs, strict=True))
    spent = sum(relative[turns.next_point().name] for _ in range(clips))
    wanted = min(max(share, 0.25), 1.0)
    apart = relative[turns.upper.name] - relative[turns.lower.name]
    assert abs(spent - wanted * clips) <= 0.5 * apart + 1e-9


def test_no_turn_of_a_point_below_the_hull() -> None:
    turns = PointPrices.of(front(0.7, 0.71, 0.9), table(1.0, 0.0)).share_turns(0.5)
    assert (turns.lower.name, turns.upper.name) == ("big x 1", "big x 4")
    assert turns.share == pytest.approx(1 / 3)
