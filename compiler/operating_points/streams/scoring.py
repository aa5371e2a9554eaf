"""How right the answers along streams are, how soon, and how steady."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compiler.operating_points.streams.event_detection import EventCounts, count_events, reported_events
from compiler.operating_points.streams.running import StreamCourse
from compiler.operating_points.streams.stream_answers import BACKGROUND, StreamAnswers

_AFTER_S = 1.0


@dataclass(frozen=True)
class StreamScores:
    """Of one way to run, over all streams.

    ``right``: of each stream, how many of its events' steps are answered right, ``asked``: of how many.
    ``accuracy``: of all streams together. ``delay_s``: median and 95th percentile of the time from an event's
    beginning to its first right answer, of events that have one; ``missed``: the share that have none.
    ``changes``: of the answer, a minute. ``false_wakings``: an hour of time in no event, nor in the second
    after one; not a number without a watch, or such time. ``detected``: events reported beside those there.
    """

    right: NDArray[np.int64]
    asked: NDArray[np.int64]
    accuracy: float
    delay_s: tuple[float, float]
    missed: float
    changes: float
    false_wakings: float
    detected: EventCounts


def score(answers: Sequence[StreamAnswers], courses: Sequence[StreamCourse]) -> StreamScores:
    """What a way to run came to on each stream."""
    right, asked = np.zeros(len(answers), np.int64), np.zeros(len(answers), np.int64)
    delays: list[float] = []
    changes = 0
    detected = EventCounts(0, 0, 0)
    for place, (stream, course) in enumerate(zip(answers, courses, strict=True)):
        said = course.labels
        within = stream.targets != BACKGROUND
        hits = (said == stream.targets) & within
        right[place], asked[place] = hits.sum(), within.sum()
        changes += int((said[1:] != said[:-1]).sum())
        reported = reported_events(said, course.asleep, course.woken)
        counts = zip(detected, count_events(stream.events, reported), strict=True)
        detected = EventCounts(*(total + more for total, more in counts))
        times = stream.times
        for first, after, _ in stream.events:
            found = np.flatnonzero(hits[first:after])
            delays += [float(times[first + found[0]] - times[first])] if len(found) else []
    seconds, events = sum(one.duration_s for one in answers), sum(len(one.events) for one in answers)
    return StreamScores(
        right,
        asked,
        float(right.sum() / asked.sum()) if asked.any() else np.nan,
        (float(np.median(delays)), float(np.quantile(delays, 0.95))) if delays else (np.nan, np.nan),
        1 - len(delays) / events if events else np.nan,
        60 * changes / seconds if seconds else np.nan,
        _false_wakings(answers, courses),
        detected,
    )


def _false_wakings(answers: Sequence[StreamAnswers], courses: Sequence[StreamCourse]) -> float:
    """That an event is over is worth a waking too: the second after one is left out."""
    times, found = 0.0, 0
    for stream, course in zip(answers, courses, strict=True):
        if course.asleep is None:
            return np.nan
        step_s = stream.duration_s / len(stream)
        nothing = stream.targets == BACKGROUND
        for _, after, _ in stream.events:
            nothing[after : after + round(_AFTER_S / step_s)] = False
        times += float(nothing.sum()) * step_s
        found += int(nothing[list(course.woken)].sum())
    return 3600 * found / times if times else np.nan
