"""Where the looks of a schedule lie."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sdk.decisions.points.look_positions import evenly_spaced, from_first_step


@given(st.integers(1, 64), st.integers(1, 300))
def test_evenly_spaced(count: int, steps: int) -> None:
    chosen = evenly_spaced(count, steps)
    assert len(chosen) == len(set(chosen)) == min(count, steps)
    assert chosen == sorted(chosen) and chosen[0] >= 0 and chosen[-1] < steps
    gaps = np.diff([-chosen[0] - 1, *chosen, 2 * steps - 1 - chosen[-1]])
    assert gaps.max() <= 2 * max(1, np.ceil(steps / count))  # no stretch is left out


def test_evenly_spaced_by_hand() -> None:
    assert evenly_spaced(1, 8) == [4]
    assert evenly_spaced(2, 8) == [2, 6]
    assert evenly_spaced(4, 16) == [2, 6, 10, 14]
    assert evenly_spaced(16, 3) == [0, 1, 2]


@given(st.integers(1, 64), st.integers(1, 300))
def test_a_stream_begins_with_a_look(count: int, steps: int) -> None:
    chosen = from_first_step(count, steps)
    assert chosen[0] == 0 and chosen[-1] < steps
    assert np.array_equal(np.diff(chosen), np.diff(evenly_spaced(count, steps)))
