"""Scores of streams, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from compiler.operating_points.streams.running import StreamCourse
from compiler.operating_points.streams.scoring import score
from compiler.operating_points.streams.stream_answers import StreamAnswers
from sdk.media.signals.signals import SignalReading

NONE = -1


def stream(targets: list[int], *events: tuple[int, int, int], step_s: float = 0.5) -> StreamAnswers:
    nothing = np.zeros(1, np.float32)
    readings = tuple(SignalReading(nothing, None, place * step_s) for place in range(len(targets)))
    restarted = np.zeros(len(targets), np.bool_)
    return StreamAnswers({}, readings, restarted, np.array(targets), events, 0, "stream")


def course(said: NDArray[np.int64], woken: tuple[int, ...] | None = None) -> StreamCourse:
    """What was answered at each step; woken at some, and else asleep, if it was watched."""
    ran: list[tuple[str, ...]] = [()] * len(said)
    if woken is None:
        return StreamCourse(said, ran)
    asleep = np.ones(len(said), np.bool_)
    asleep[list(woken)] = False
    return StreamCourse(said, ran, asleep, woken)


@pytest.mark.parametrize("step_s", [0.5, 2.0])
def test_right_delayed_missed_and_changing(step_s: float) -> None:
    """Delays go by the steps' own times, whatever there were to be a second."""
    one = stream([NONE, 0, 0, 0, 0, NONE, 1, 1], (1, 5, 0), (6, 8, 1), step_s=step_s)
    said = np.array([1, 1, 1, 0, 0, 0, 0, 0])
    other = stream([NONE] * 4, step_s=step_s)
    found = score([one, other], [course(said), course(np.zeros(4, int))])
    assert found.accuracy == pytest.approx(2 / 6)
    assert found.right.tolist() == [2, 0] and found.asked.tolist() == [6, 0]
    assert found.delay_s == (2 * step_s, 2 * step_s) and found.missed == 0.5
    assert found.changes == pytest.approx(60 / (12 * step_s)), "one change in twelve steps"


def test_background_right_or_wrong_counts_nothing() -> None:
    one = stream([NONE, NONE, 0], (2, 3, 0))
    assert score([one], [course(np.array([0, 1, 0]))]).accuracy == 1.0


def test_wakings_that_nothing_called_for() -> None:
    """Ten seconds in no event, of which the second after an event does not count."""
    one = stream([0, 0, *[NONE] * 20, 0, 0], (0, 2, 0), (22, 24, 0))
    said, hours = np.zeros(24, np.int64), 9 / 3600
    assert np.isnan(score([one], [course(said)]).false_wakings), "without a watch there are none"
    for woken, false in (((), 0), ((0, 22), 0), ((3,), 0), ((4, 10, 22), 2)):
        assert score([one], [course(said, woken)]).false_wakings == pytest.approx(false / hours)
    always = stream([0, 0], (0, 2, 0))
    assert np.isnan(score([always], [course(np.zeros(2, np.int64), (0,))]).false_wakings)
