"""The hull of ways to run: never behind any of them, whatever they cost, and concave."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sdk.decisions.points.hull import hull, sharing

points = st.lists(st.tuples(st.floats(0.01, 100), st.floats(0, 1)), min_size=1, max_size=20)


@given(points)
def test_no_point_is_above_the_shared_front(pairs: list[tuple[float, float]]) -> None:
    costs, values = np.array([c for c, _ in pairs]), np.array([v for _, v in pairs])
    front = hull(costs, values)
    assert (np.diff(costs[front]) > 0).all() and (np.diff(values[front]) > 0).all()
    for cost, value in pairs:
        one, other, share = sharing(costs, front, cost)
        assert (1 - share) * values[one] + share * values[other] >= value - 1e-9
        assert (1 - share) * costs[one] + share * costs[other] <= max(cost, costs[front[0]]) + 1e-9


def test_by_hand() -> None:
    costs, values = np.array([1.0, 2.0, 3.0, 4.0, 2.5]), np.array([0.2, 0.6, 0.65, 0.9, 0.1])
    assert hull(costs, values) == [0, 1, 3], "3.0 lies below the line from 2.0 to 4.0"
    assert sharing(costs, [0, 1, 3], 3.0) == (1, 3, 0.5)
    assert sharing(costs, [0, 1, 3], 0.5) == (0, 0, 0.0) and sharing(costs, [0, 1, 3], 9.0) == (3, 3, 0.0)
