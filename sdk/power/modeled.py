"""Where nothing can be measured: a power while idle, and what the work is taken to add."""

from __future__ import annotations

import math
import threading
import time
from numbers import Real
from typing import Any

from sdk.power.meter import Clock, Meter, MeterError


class ModeledMeter(Meter):
    """Joules by a model: ``idle_w`` all the time, and more for work, which the recognizer reports.

    With ``busy_w``: so much more than ``idle_w`` while it works. Without: what the bundle's cost table says
    that a run of each graph takes; where it says nothing, the energy is not known. A model, not a
    measurement: its source says so.
    """

    kind = "modeled"
    period_s = 0.0

    def __init__(self, idle_w: float, busy_w: float | None = None, clock: Clock = time.monotonic) -> None:
        """Raises: MeterError if a power is negative or not a number."""
        _require_watts("idle_w", idle_w)
        if busy_w is not None:
            _require_watts("busy_w", busy_w)
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


def _require_watts(name: str, value: Any) -> None:
    """Raises: MeterError if ``value`` is not a power in W, 0 or more."""
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < 0:
        fix = "give W, 0 or more: ModeledMeter(2, 5) is 2 W idle, and 5 W more while busy"
        raise MeterError(f"ModeledMeter {name} {value!r}", "is not a power", fix)
