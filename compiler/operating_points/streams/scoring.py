"""How right the answers along streams are, how soon, and how steady."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compiler.operating_points.streams.stream_answers import BACKGROUND, StreamAnswers

_AFTER_S = 1.0


@dataclass(frozen=True)
class StreamScores:
    """Of one way to run, over all streams.

    ``right``: of each stream, how many of its events' steps are answered right, ``asked``: of how many.
    ``accuracy``: of all streams together. ``delay_s``: median and 95th percentile of the time from an event's
    beginning to its first right answer, of events that have one; ``missed``: the share that have none.
    ``changes``: of the answer, a minute. ``false_wakings``: an hour of time in no event, nor in the second
    after one; not a number without a watch, or such time.
    """

    right: NDArray[np.int64]
    asked: NDArray[np.int64]
    accuracy: float
    delay_s: tuple[float, float]
    missed: float
    changes: float
    false_wakings: float


def score(
    answers: Sequence[StreamAnswers],
    labels: Sequence[NDArray[np.int64]],
    woken: Sequence[Sequence[int]] | None = None,
) -> StreamScores:
    """``labels`` (steps,) of each stream, as answered; ``woken``: where each began anew, if it is watched."""
    right, asked = np.zeros(len(answers), np.int64), np.zeros(len(answers), np.int64)
    delays: list[float] = []
    changes = 0
    for place, (stream, said) in enumerate(zip(answers, labels, strict=True)):
        within = stream.targets != BACKGROUND
        hits = (said == stream.targets) & within
        right[place], asked[place] = hits.sum(), within.sum()
        changes += int((said[1:] != said[:-1]).sum())
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
        np.nan if woken is None else _false_wakings(answers, woken),
    )


def _false_wakings(answers: Sequence[StreamAnswers], woken: Sequence[Sequence[int]]) -> float:
    """That an event is over is worth a waking too: the second after one is left out."""
    times, found = 0.0, 0
    for stream, steps in zip(answers, woken, strict=True):
        step_s = stream.duration_s / len(stream)
        nothing = stream.targets == BACKGROUND
        for _, after, _ in stream.events:
            nothing[after : after + round(_AFTER_S / step_s)] = False
        times += float(nothing.sum()) * step_s
        found += int(nothing[list(steps)].sum())
    return 3600 * found / times if times else np.nan
