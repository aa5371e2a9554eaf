"""Stream time: seconds that start near 0 and never run backwards, whatever the source's timestamps do."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from sdk.media.frames import Event, NoSound, Picture, SoundChunk

_NEAR_S = 0.5
"""Timestamps that begin as near to 0 as this stay as they are."""
_PICTURE_JUMP_S, _SOUND_JUMP_S = 0.2, 0.5
"""By how much pictures, and sound, go back where time begins anew; by less they are out of order."""
_MOST_WAITING_S = 5.0
"""Of sound that waits for the pictures of its time."""


class StreamTime:
    """Gives the events of one source their stream time; ``Picture.source_time_s`` keeps the timestamp.

    Files may start elsewhere than at 0 (MPEG-TS does), and timestamps may jump back where two streams were
    joined, a clock wraps, or a connection was lost: there stream time goes on after what came last, the same
    for pictures and sound, and the first picture says so (``Picture.after_gap``). Pictures decide, as they do
    without any sound: sound that comes first waits for them.
    """

    def __init__(self) -> None:
        self._offset_s: float | None = None
        self._interrupted = False
        self._waiting: list[SoundChunk] = []
        self._last_sound_s = self._last_source_s = -math.inf
        self._last_s, self._interval_s, self._arrived_s = 0.0, 0.0, 0.0

    def interrupt(self) -> None:
        """The source was connected again: what comes next begins anew, later by the time that this took."""
        self._interrupted = self._offset_s is not None

    def events(
        self, events: Iterable[Event], start_s: Callable[[], float | None] = lambda: None
    ) -> Iterator[Event]:
        """The events in stream time; ``start_s`` gives the source's first timestamp, if it is known."""
        for event in events:
            if isinstance(event, NoSound):
                yield event
            elif isinstance(event, SoundChunk):
                if self._offset_s is None and start_s() is not None:
                    self._offset_s = _offset(start_s() or 0.0)
                yield from self._sound(event)
            else:
                before = self._offset_s
                picture = self._picture(event, start_s())
                if before is None or picture.after_gap:
                    yield from self._released()
                yield picture

    def _sound(self, chunk: SoundChunk) -> Iterator[Event]:
        jumped = chunk.time_s < self._last_sound_s - _SOUND_JUMP_S
        behind = chunk.time_s < self._last_source_s - _SOUND_JUMP_S
        self._last_sound_s = chunk.time_s
        if self._waiting or self._offset_s is None or self._interrupted or (jumped and behind):
            self._waiting.append(chunk)
            waiting_s = chunk.time_s - self._waiting[0].time_s
            if abs(waiting_s) > _MOST_WAITING_S and self._offset_s is not None:
                yield from self._released()
        else:
            yield replace(chunk, time_s=chunk.time_s - self._offset_s)

    def _released(self) -> Iterator[Event]:
        """The sound that waited."""
        waiting, self._waiting = self._waiting, []
        for chunk in waiting:
            yield replace(chunk, time_s=chunk.time_s - (self._offset_s or 0.0))

    def _picture(self, picture: Picture, start_s: float | None) -> Picture:
        source_s, after_gap = picture.time_s, False
        if self._offset_s is None:
            self._offset_s = _offset(source_s if start_s is None else start_s)
        elif self._interrupted or source_s < self._last_source_s - _PICTURE_JUMP_S:
            passed_s = self._interval_s
            if self._interrupted:
                passed_s = max(passed_s, picture.arrived_s - self._arrived_s)
            self._offset_s, after_gap = source_s - (self._last_s + passed_s), True
            self._interrupted = False
        elif source_s > self._last_source_s > -math.inf:
            self._interval_s = source_s - self._last_source_s
        self._last_source_s = source_s if after_gap else max(self._last_source_s, source_s)
        time_s = source_s - self._offset_s
        self._last_s, self._arrived_s = max(self._last_s, time_s), picture.arrived_s
        return replace(picture, time_s=time_s, source_time_s=source_s, after_gap=after_gap)


def _offset(first_s: float) -> float:
    """What is taken off timestamps that begin at ``first_s``."""
    return first_s if abs(first_s) > _NEAR_S else 0.0
