"""Where nothing can be measured: a power while idle, and more while there is work."""

from __future__ import annotations

import threading
import time

from sdk.power.meter import Clock, Meter


class ModelledMeter(Meter):
    """Joules by a model: ``idle_w`` all the time, and ``busy_w`` more while the recogniser works.

    The recogniser tells it how long it worked. A model, not a measurement: its source says so.
    """

    kind = "modelled"
    period_s = 0.0

    def __init__(self, idle_w: float, busy_w: float, clock: Clock = time.monotonic) -> None:
        """Raises: ValueError if a power is negative or not a number."""
        if not (0 <= idle_w < float("inf") and 0 <= busy_w < float("inf")):
            raise ValueError(f"idle_w {idle_w}, busy_w {busy_w}: give watts, 0 or more")
        self.idle_w, self.busy_w = idle_w, busy_w
        self.source = f"modelled: {idle_w:g} W idle, {busy_w:g} W more while busy"
        self._clock, self._lock = clock, threading.Lock()
        self._began_s, self._worked_j = clock(), 0.0

    def worked(self, milliseconds: float) -> None:
        """Count so much work."""
        with self._lock:
            self._worked_j += self.busy_w * milliseconds * 1e-3

    def read(self) -> float | None:
        """Idle and work so far."""
        with self._lock:
            return self.idle_w * (self._clock() - self._began_s) + self._worked_j
