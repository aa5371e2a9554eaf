"""Metered energy in a form to control by: joules of each step, and spans to learn costs from."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from sdk.budget.energy_reserve import WINDOW_S

Floats = NDArray[np.float64]
Places = tuple[int, ...]
"""What ran: 0 for the policy, then each option's place from 1."""

SPAN_S = 1.0
"""The shortest span to learn from: shorter ones are lost in the meter's grain."""
LAGS_S = (0.0, 0.15, 0.3, 0.45, 0.6)
"""By how much later than it is used a meter may report energy."""


@dataclass(frozen=True, slots=True)
class Span:
    """So many seconds, and the energy (J) that the meter reported in them.

    ``runs`` (lags, 1 + n): how often policy and options ran in them, if it reports so much later
    (``LAGS_S``).
    """

    seconds: float
    runs: Floats
    energy_j: float


@dataclass(frozen=True, slots=True)
class MeterMark:
    """A moment (s) and the meter's joules then; None: not known."""

    at_s: float
    energy_j: float | None = None


class MeteredEnergy:
    """What was used since the last step, and since the budget was set.

    Meters count in lumps, late, or not at all. Between two readings that differ, and where there is none,
    the expected energy is taken, and corrected by the next that differs.
    """

    _span_j: float | None

    def __init__(self, size: int) -> None:
        """``size``: how many things may run, each with a place of its own."""
        self._last_s: float | None = None
        self._span_s, self._span_j = 0.0, None
        self._last_j, self._unsettled_j = 0.0, 0.0
        self._size = size
        self._ran: deque[tuple[float, Places]] = deque()

    def restart(self, now_s: float, energy_j: float | None = None) -> None:
        """Count from now, at the meter's reading ``energy_j``; nothing is learned any more from what ran
        before.
        """
        self._last_s = now_s
        self._ran.clear()
        self._start_span(math.nextafter(now_s, -math.inf), energy_j)  # what runs at once is part of the span

    @property
    def unmetered(self) -> bool:
        """Whether the meter gave no last reading."""
        return self._span_j is None

    @property
    def last_s(self) -> float:
        """When the last step was recorded, or counting began; 0 before."""
        return self._last_s or 0.0

    def elapsed_s(self, now_s: float) -> float:
        """Seconds since the last recorded step; 0 before the first."""
        return 0.0 if self._last_s is None else max(now_s - self._last_s, 0.0)

    def record_step(
        self, now_s: float, energy_j: float | None, ran: Places, expected_j: float
    ) -> tuple[float, Span | None]:
        """Record a step in which these ``ran``: the energy (J) used since the last, and a span if one is
        over.

        ``expected_j``: what the time since then should have taken.
        """
        if self._last_s is None:
            self._last_s = now_s
            self._start_span(now_s, energy_j)
            return 0.0, None
        self._last_s, used_j = now_s, expected_j
        self._ran.append((now_s, ran))
        if energy_j is None or self._span_j is None:
            if energy_j is not None or self._span_j is not None:
                self._start_span(now_s, energy_j)
            return used_j, None
        if energy_j == self._last_j:
            self._unsettled_j += used_j
            return used_j, None
        used_j = energy_j - self._last_j - self._unsettled_j
        self._last_j, self._unsettled_j = energy_j, 0.0
        span = None
        if now_s - self._span_s >= SPAN_S:
            span = Span(now_s - self._span_s, self._runs_until(now_s), energy_j - self._span_j)
            self._start_span(now_s, energy_j)
        return used_j, span

    def _start_span(self, now_s: float, energy_j: float | None) -> None:
        self._span_s, self._span_j = now_s, energy_j
        if energy_j is None or energy_j != self._last_j:  # else what was expected is still to be corrected
            self._last_j, self._unsettled_j = energy_j or 0.0, 0.0

    def _runs_until(self, now_s: float) -> Floats:
        """What ran in the span that ends now, by each lag (lags, 1 + n)."""
        times = np.array([at_s for at_s, _ in self._ran])
        ends = np.searchsorted(times, [now_s - lag_s for lag_s in LAGS_S], side="right")
        begins = np.searchsorted(times, [self._span_s - lag_s for lag_s in LAGS_S], side="right")
        runs = np.zeros((len(LAGS_S), self._size))
        for lag, (begin, end) in enumerate(zip(begins.tolist(), ends.tolist(), strict=True)):
            places = [place for _, ran in islice(self._ran, begin, end) for place in ran]
            runs[lag] = np.bincount(places, minlength=self._size)
        for _ in range(int(ends[-1])):
            self._ran.popleft()
        return runs


class RecentPower:
    """The average power of the last 30 s at most."""

    def __init__(self, now_s: float) -> None:
        self._total_j = 0.0
        self._marks = deque([(now_s, 0.0)])
        self._now_s = now_s

    def record_use(self, now_s: float, used_j: float) -> None:
        """Record the joules used since the last time."""
        self._total_j += used_j
        self._now_s = now_s
        if now_s - self._marks[-1][0] >= SPAN_S:
            self._marks.append((now_s, self._total_j))
            while now_s - self._marks[1][0] >= WINDOW_S:
                self._marks.popleft()

    @property
    def seconds(self) -> float:
        """How much time the average is over."""
        return self._now_s - self._marks[0][0]

    @property
    def watts(self) -> float | None:
        """The average; None before any time has passed."""
        return (self._total_j - self._marks[0][1]) / self.seconds if self.seconds > 0 else None
