"""Events as a way to run reports them, matched with those that there were (THUMOS: Idrees et al. 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from compiler.operating_points.streams.stream_answers import BACKGROUND

_LEAST_OVERLAP = 0.5
"""Intersection over union in time from which on an event is found."""

Event = tuple[int, int, int]
"""The first step, the step after the last, and the class."""


class EventCounts(NamedTuple):
    """``there`` were, were ``reported``, and were reported right: the same class, half of both in common."""

    there: int
    reported: int
    right: int

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall; not a number where there is nothing."""
        both = self.there + self.reported
        return 2 * self.right / both if both else np.nan


def reported_events(
    labels: NDArray[np.int64], asleep: NDArray[np.bool_] | None, woken: Sequence[int]
) -> list[Event]:
    """With a watch: from each waking, or cut, to the sleep or cut after it, the class said last.

    Without (``asleep`` None): for as long as the same class is said. ``labels``, ``asleep`` (steps,).
    """
    if asleep is None:
        borders = np.flatnonzero(labels[1:] != labels[:-1]) + 1
        silent = labels == BACKGROUND
    else:
        borders = np.union1d(np.flatnonzero(asleep[1:] != asleep[:-1]) + 1, np.array(woken, np.int64))
        silent = asleep | (labels == BACKGROUND)
    edges = [0, *(int(step) for step in borders if step > 0), len(labels)]
    return [
        (first, after, int(labels[after - 1])) for first, after in pairwise(edges) if not silent[after - 1]
    ]


def count_events(there: Sequence[Event], reported: Sequence[Event]) -> EventCounts:
    """Each is matched with one at most, those that have most in common first."""
    pairs = sorted(
        (
            (_overlap(one, other), place, number)
            for place, one in enumerate(there)
            for number, other in enumerate(reported)
            if one[2] == other[2] and one[0] < other[1] and other[0] < one[1]
        ),
        reverse=True,
    )
    places: set[int] = set()
    numbers: set[int] = set()
    for overlap, place, number in pairs:
        if overlap >= _LEAST_OVERLAP and place not in places and number not in numbers:
            places.add(place)
            numbers.add(number)
    return EventCounts(len(there), len(reported), len(places))


def _overlap(one: Event, other: Event) -> float:
    """Intersection over union, in steps."""
    common = min(one[1], other[1]) - max(one[0], other[0])
    return common / (max(one[1], other[1]) - min(one[0], other[0]))
