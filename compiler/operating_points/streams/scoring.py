"""How right the answers along streams are, how soon, and how steady."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compiler.operating_points.streams.stream_answers import BACKGROUND, StreamAnswers


@dataclass(frozen=True)
class StreamScores:
    """Of one way to run, over all streams.

    ``right``: of each stream, the share of its events' steps that are answered right. ``accuracy``: of all
    events' steps together. ``delay_s``: median and 95th percentile of the time from an event's beginning to
    its first right answer, of events that have one; ``missed``: the share that have none. ``changes``: of the
    answer, a minute.
    """

    right: NDArray[np.float64]
    accuracy: float
    delay_s: tuple[float, float]
    missed: float
    changes: float


def score(
    answers: Sequence[StreamAnswers], labels: Sequence[NDArray[np.int64]], rate_hz: float
) -> StreamScores:
    """``labels`` (steps,) of each stream, as answered. Streams without events have no share that is right."""
    right, correct, steps = [], 0, 0
    delays: list[float] = []
    events = changes = 0
    for stream, said in zip(answers, labels, strict=True):
        within = stream.targets != BACKGROUND
        hits = (said == stream.targets) & within
        right.append(float(hits.sum() / within.sum()) if within.any() else np.nan)
        correct, steps = correct + int(hits.sum()), steps + int(within.sum())
        changes += int((said[1:] != said[:-1]).sum())
        for first, after, _ in stream.events:
            events += 1
            found = np.flatnonzero(hits[first:after])
            if len(found):
                delays.append(float(found[0]) / rate_hz)
    seconds = sum(map(len, answers)) / rate_hz
    return StreamScores(
        np.array(right),
        correct / steps if steps else np.nan,
        (float(np.median(delays)), float(np.quantile(delays, 0.95))) if delays else (np.nan, np.nan),
        1 - len(delays) / events if events else np.nan,
        60 * changes / seconds if seconds else np.nan,
    )
