"""Which frames of a stream are steps: decided from the frames' own times alone, causally."""

from __future__ import annotations

import math
from enum import Enum

EARLY_S = 1.25e-3
"""Containers round times to a millisecond: start and frame may each be half of one off."""
_JITTER_S = 0.2


class Tick(Enum):
    """What a frame is to the policy."""

    NO = "no"
    STEP = "step"
    STEP_AFTER_GAP = "step_after_gap"

    @property
    def is_step(self) -> bool:
        """True for both kinds of step."""
        return self is not Tick.NO


class StepClock:
    """Chooses the frames that are steps: the first at or after each due time.

    Due times are ``start + delay_s + k / rate_hz``, where ``start`` is the time of the first frame of a
    stretch; without a delay that frame is a step. If a frame passes several due times at once (a source
    slower than ``rate_hz``), it is one step, and the next due time is the first after it. A frame earlier
    than its due time by about a millisecond is on time: container times are rounded.

    A new stretch begins at a frame that comes more than ``gap_s`` after the last one, or more than 0.2 s
    before the latest; its first step says so by ``STEP_AFTER_GAP``. Smaller disorder is jitter, and no step.

    Raises: ValueError if ``rate_hz`` or ``gap_s`` is not a positive number, or ``delay_s`` is negative.
    """

    def __init__(self, rate_hz: float, gap_s: float = 2.0, delay_s: float = 0.0) -> None:
        if not (math.isfinite(rate_hz) and rate_hz > 0):
            raise ValueError(f"rate_hz {rate_hz}: must be positive")
        if not gap_s > 0:
            raise ValueError(f"gap_s {gap_s}: must be positive")
        if not 0 <= delay_s < math.inf:
            raise ValueError(f"delay_s {delay_s}: must be 0 or more")
        self.rate_hz = rate_hz
        self.gap_s = gap_s
        self.delay_s = delay_s
        self._early_s = min(EARLY_S, 0.25 / rate_hz)
        self._first_due_s: float | None = None
        self._latest_s = -math.inf
        self._next_k = 0
        self._after_gap = False
        self._began = False

    @property
    def first_due_s(self) -> float:
        """The first due time of the stretch; 0 before its first frame."""
        return self._first_due_s or 0.0

    @property
    def began(self) -> bool:
        """True if the latest frame is the first of a stretch."""
        return self._began

    def restart(self) -> None:
        """Forget the grid: the next frame begins a stretch after a gap (the source was reconnected)."""
        self._after_gap = self._first_due_s is not None or self._after_gap
        self._first_due_s = None

    def tick(self, time_s: float) -> Tick:
        """Say what the frame at ``time_s`` (seconds of source time) is. Call once per frame, in order."""
        if self._first_due_s is not None and self._is_gap(time_s):
            self.restart()
        self._began = self._first_due_s is None
        if self._first_due_s is None:
            self._first_due_s, self._latest_s = time_s + self.delay_s, time_s
            self._next_k = 0
        self._latest_s = max(self._latest_s, time_s)
        due_s = self._first_due_s + self._next_k / self.rate_hz
        if time_s < due_s - self._early_s:
            return Tick.NO
        tick = Tick.STEP_AFTER_GAP if self._after_gap else Tick.STEP
        self._next_k, self._after_gap = self._first_due_after(time_s - self._first_due_s), False
        return tick

    def due(self, time_s: float) -> bool:
        """True if the frame at ``time_s`` is a step; advances the clock as ``tick`` does."""
        return self.tick(time_s).is_step

    def _is_gap(self, time_s: float) -> bool:
        return time_s > self._latest_s + self.gap_s or time_s < self._latest_s - _JITTER_S

    def _first_due_after(self, elapsed_s: float) -> int:
        return max(self._next_k, math.floor((elapsed_s + self._early_s) * self.rate_hz)) + 1
