"""Where nothing can be measured: a power while idle, and what the work is taken to add."""

from __future__ import annotations

import threading
import time

from sdk.power.meter import Clock, Meter


class ModeledMeter(Meter):
    """Joules by a model: ``idle_w`` all the time, and more for work, which the recognizer reports.

    With ``busy_w``: so much more while it works. Without: what the bundle's cost table says that a run of
    each graph takes; where it says nothing, the energy is not known. A model, not a measurement: its source
    says so.
    """

    kind = "modeled"
    period_s = 0.0

    def __init__(self, idle_w: float, busy_w: float | None = None, clock: Clock = time.monotonic) -> None:
        """Raises: ValueError if a power is negative or not a number."""
        if not (0 <= idle_w < float("inf") and (busy_w is None or 0 <= busy_w < float("inf"))):
            raise ValueError(f"idle_w {idle_w}, busy_w {busy_w}: give watts, 0 or more")
        self.idle_w, self.busy_w = idle_w, busy_w
        work = "the cost table's mJ for what runs" if busy_w is None else f"{busy_w:g} W more while busy"
        self.source = f"modeled: {idle_w:g} W idle, {work}"
        self._clock, self._lock = clock, threading.Lock()
        self._began_s, self._worked_j = clock(), 0.0
        self._error: str | None = None

    def record_work(self, milliseconds: float, millijoules: float | None = None) -> None:
        """Count so much work."""
        with self._lock:
            if self.busy_w is not None:
                self._worked_j += self.busy_w * milliseconds * 1e-3
            elif millijoules is None:
                self._error = "the bundle's cost table has no energies for this device"
            else:
                self._worked_j += millijoules * 1e-3

    @property
    def error(self) -> str | None:
        """That the cost table says nothing, if it does not."""
        return self._error

    def read(self) -> float | None:
        """Idle and work so far."""
        with self._lock:
            if self._error is not None:
                return None
            return self.idle_w * (self._clock() - self._began_s) + self._worked_j
