"""Scores of streams, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from compiler.operating_points.streams.scoring import score
from compiler.operating_points.streams.stream_answers import StreamAnswers

NONE = -1


def stream(targets: list[int], *events: tuple[int, int, int]) -> StreamAnswers:
    return StreamAnswers({}, (), np.array(targets), events, 0, "stream")


def test_right_delayed_missed_and_changing() -> None:
    one = stream([NONE, 0, 0, 0, 0, NONE, 1, 1], (1, 5, 0), (6, 8, 1))
    said = np.array([1, 1, 1, 0, 0, 0, 0, 0])
    other = stream([NONE] * 4)
    found = score([one, other], [said, np.zeros(4, int)], rate_hz=2.0)
    assert found.accuracy == pytest.approx(2 / 6) and found.right[0] == pytest.approx(2 / 6)
    assert np.isnan(found.right[1]), "a stream without events has nothing to be right about"
    assert found.delay_s == (1.0, 1.0) and found.missed == 0.5
    assert found.changes == pytest.approx(60 / 6.0), "one change in six seconds"


def test_background_right_or_wrong_counts_nothing() -> None:
    one = stream([NONE, NONE, 0], (2, 3, 0))
    assert score([one], [np.array([0, 1, 0])], 1.0).accuracy == 1.0
