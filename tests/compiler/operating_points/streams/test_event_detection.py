"""Events as they are reported, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.operating_points.streams.event_detection import Event, count_events, reported_events

NONE = -1


def test_without_a_watch_an_event_lasts_as_long_as_its_class_is_said() -> None:
    labels = np.array([NONE, NONE, 0, 0, 1, 0, 0])
    assert reported_events(labels, None, ()) == [(2, 4, 0), (4, 5, 1), (5, 7, 0)]


def test_with_a_watch_it_lasts_while_it_is_awake_and_cuts_part_it() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 2])
    asleep = np.array([0, 0, 1, 0, 0, 0, 0, 0, 1, 1], np.bool_)
    assert reported_events(labels, asleep, (3,)) == [(0, 2, 0), (3, 8, 2)]
    assert reported_events(labels, asleep, (3, 6)) == [(0, 2, 0), (3, 6, 1), (6, 8, 2)]
    assert reported_events(labels, np.ones(10, np.bool_), ()) == []


def test_one_event_is_found_by_one_report() -> None:
    there: list[Event] = [(0, 10, 0), (20, 30, 1)]
    assert count_events(there, [(0, 10, 0), (1, 10, 0)]) == (2, 2, 1)
    assert count_events(there, [(0, 10, 1), (20, 40, 1)]) == (2, 2, 1), "its class and half of both"
    assert count_events(there, [(20, 41, 1)]).right == 0
    assert count_events(there, there).f1 == 1.0
    assert count_events(there, []).f1 == 0.0 and np.isnan(count_events([], []).f1)
    assert count_events(there, [(0, 10, 0)]).f1 == pytest.approx(2 / 3)


@given(
    st.lists(st.integers(-1, 2), min_size=1, max_size=40), st.lists(st.booleans(), min_size=40, max_size=40)
)
def test_reports_do_not_overlap_and_say_nothing_asleep(said: list[int], sleeps: list[bool]) -> None:
    labels, asleep = np.array(said), np.array(sleeps[: len(said)])
    for watched in (None, asleep):
        last = 0
        for first, after, label in reported_events(labels, watched, ()):
            assert last <= first < after and label == labels[after - 1] != NONE
            assert watched is None or not watched[first:after].any()
            last = after
