"""What a stream leaves in memory for the steps to come: the pictures and the sound of a segment."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

from sdk.media.absence import SOUND_ENDED, SOUND_NOT_BEGUN, Absence
from sdk.media.clock import EARLY_S
from sdk.media.frames import NoSound, Picture, Sound, SoundChunk
from sdk.media.requirements import StreamRequirements

_MOST_PICTURES = 512
_MOST_SPARE = 64
_MARGIN_S = 2 * EARLY_S
_JITTER_S = 0.02
_BACKWARDS_S = 1.0
_PAUSE_S = 0.25
_LONGEST_AHEAD_S = 30.0
_NEVER = 1 << 62


class PictureMemory:
    """The pictures of the last ``segment_s`` seconds: all of them, or those that even spacing needs.

    The steps to come lie on the clock's grid, each at most one picture late. So a picture can only be
    needed if it is the latest at a place that is evenly spaced before such a due time, or the next one:
    at most two pictures a place are kept, and choosing among them is choosing among all.

    A stretch may end before its first due time, anywhere: until then the others are kept too, the last 64.
    """

    def __init__(self, requirements: StreamRequirements) -> None:
        self._requirements = requirements
        self._pictures: deque[Picture] = deque(maxlen=_MOST_PICTURES)
        self._spare: deque[Picture] = deque(maxlen=_MOST_SPARE)
        self._before_last_s = -math.inf
        shares = {n / frames for frames in requirements.frames for n in range(1, frames)}
        self._offsets_s = sorted(share * requirements.segment_s for share in shares)

    def clear(self) -> None:
        """Forget all."""
        self._pictures.clear()
        self._spare.clear()
        self._before_last_s = -math.inf

    def add(self, picture: Picture, first_due_s: float) -> None:
        """Keep ``picture`` as the latest; ``first_due_s``: where the clock's grid begins."""
        if self._pictures:
            last_s = self._pictures[-1].time_s
            if picture.time_s <= last_s:  # out of order: the segment does without it
                return
            if not self._is_needed(self._before_last_s, picture.time_s, first_due_s):
                self._spare.append(self._pictures.pop())
            if picture.time_s >= first_due_s:
                self._spare.clear()
            self._before_last_s = last_s
        self._pictures.append(picture)
        while self._pictures[0].time_s < picture.time_s - self._requirements.segment_s - EARLY_S:
            self._pictures.popleft()

    def before(self, time_s: float, *, off_grid: bool = False) -> tuple[Picture, ...]:
        """The pictures of the segment that ends at ``time_s``, oldest first, without the one there.

        ``off_grid``: the stretch ended at ``time_s``, before its first due time.
        """
        first_s = time_s - self._requirements.segment_s - EARLY_S
        kept = [*self._pictures, *self._spare] if off_grid else self._pictures
        within = (picture for picture in kept if first_s <= picture.time_s < time_s)
        return tuple(sorted(within, key=lambda picture: picture.time_s))

    def _is_needed(self, before_s: float, after_s: float, first_due_s: float) -> bool:
        """Whether a place of a step to come lies where the picture between these two may be chosen."""
        if self._requirements.consecutive or before_s == -math.inf:
            return True
        rate_hz = self._requirements.rate_hz
        for offset_s in self._offsets_s:
            low = (before_s - _MARGIN_S + offset_s - first_due_s) * rate_hz
            high = (after_s + _MARGIN_S + offset_s - first_due_s) * rate_hz
            if math.ceil(low) < high:
                return True
        return False


def evenly_spaced(times: NDArray[np.float64], frames: int, segment_s: float) -> list[int]:
    """Places of the ``frames`` pictures that divide the segment ending at ``times[-1]`` evenly.

    ``times``: seconds, ascending. A place is the latest picture at or before ``segment_s / frames`` times
    a whole number before the end; where there is none, the earliest picture.
    """
    due = times[-1] - segment_s / frames * np.arange(frames - 1, -1, -1) + EARLY_S
    return [max(0, int(after) - 1) for after in np.searchsorted(times, due, side="right")]


class SoundMemory:
    """The sound of the last ``segment_s`` seconds, on one grid of samples at ``rate_hz``.

    Chunks less than 20 ms off the end of what is there join it, as containers round their times. Larger
    gaps are silence and larger overlaps are cut, so that sound whose clock drifts is never off by more.
    """

    def __init__(self, rate_hz: int, segment_s: float) -> None:
        self._rate_hz = rate_hz
        self._length = round(segment_s * rate_hz)
        self.clear()

    def clear(self) -> None:
        """Forget all, the reason for silence too."""
        self._chunks: deque[tuple[int, NDArray[np.float32]]] = deque()
        self._end: int | None = None
        self._floor = self._begin = self._first = -_NEVER
        self._heard = False
        self._none: NoSound | None = None

    def begin(self, time_s: float, *, after_gap: bool) -> None:
        """A stretch begins at ``time_s``; ``after_gap``: what was heard before is forgotten."""
        self._begin = self._end_index(time_s)
        if after_gap:
            self._floor = self._begin

    def add(self, heard: SoundChunk | NoSound) -> None:
        """Take in what came next."""
        if isinstance(heard, NoSound):
            self._none = heard
            return
        self._none, self._heard = None, True
        start, samples = round(heard.time_s * self._rate_hz), heard.samples
        if self._end is not None:
            over = self._end - start
            if over > _BACKWARDS_S * self._rate_hz:  # time began anew
                self._chunks.clear()
            elif abs(over) <= _JITTER_S * self._rate_hz:
                start = self._end
            elif over > 0:
                start, samples = self._end, samples[over:]
        if not samples.size:
            return
        if not self._chunks:
            self._first = start if self._end is None or start < self._end else self._first
        self._chunks.append((start, samples))
        self._end = start + samples.size
        self._drop_before(self._end - self._length - round(_LONGEST_AHEAD_S * self._rate_hz))

    def segment(self, time_s: float) -> Sound:
        """The sound of the segment that ends at ``time_s``: nothing of what came after is in it."""
        end = self._end_index(time_s)
        first = end - self._length
        self._drop_before(first)
        samples = np.zeros(self._length, np.float32)
        last = None
        for start, chunk in self._chunks:
            low, high = max(start, first, self._floor), min(start + chunk.size, end)
            if low < high:
                samples[low - first : high - first] = chunk[low - start : high - start]
                last = high
        absent = self._absent(end, last)
        return Sound(samples if absent is None else samples[:0].copy(), self._rate_hz, absent)

    def _absent(self, end: int, last: int | None) -> Absence | None:
        """Why there is no sound, if its last sample before ``end`` is ``last``."""
        if self._none is not None and (self._none.at_once or not self._heard):
            return self._none.absence
        since = self._begin if last is None else last
        if end - since <= _PAUSE_S * self._rate_hz:
            return None
        if self._none is not None:
            return self._none.absence
        begun = self._heard and self._first < end
        return SOUND_ENDED if begun else SOUND_NOT_BEGUN

    def _drop_before(self, index: int) -> None:
        while self._chunks and self._chunks[0][0] + self._chunks[0][1].size <= index:
            self._chunks.popleft()

    def _end_index(self, time_s: float) -> int:
        return math.floor(time_s * self._rate_hz + 1e-3)
