"""Fusion over the steps of a stream."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sdk.decisions.fusion import Fusion


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def test_fusion_before_any_output() -> None:
    assert Fusion(4).update(None) is None


@given(
    st.integers(1, 6),
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.lists(st.floats(-20, 20), min_size=3, max_size=3)),
            st.one_of(st.none(), st.integers(1, 8)),
        ),
        max_size=30,
    ),
)
def test_fusion_is_the_softmax_of_the_mean_of_the_last_steps(
    window: int, steps: list[tuple[list[float] | None, int | None]]
) -> None:
    """The window's, or as many as is said; from step to step it may be another number: another point runs."""
    fusion = Fusion(window)
    expected: np.ndarray | None = None
    for index, (logits, last) in enumerate(steps):
        scores = fusion.update(None if logits is None else np.array(logits), last=last)
        counted = min(window, last or window)
        inside = [step for step, _ in steps[max(0, index + 1 - counted) : index + 1] if step is not None]
        if inside:
            expected = softmax(np.mean(inside, axis=0))
        if expected is None:
            assert scores is None
        else:
            np.testing.assert_allclose(scores, expected, atol=1e-12)
