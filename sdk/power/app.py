"""What the app itself measures: Android's power monitors, a wall meter, a simulated device."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from sdk.power.meter import Clock, Counter, CounterMeter


class AppMeter(CounterMeter):
    """A callable of the app's that gives joules since any fixed moment, or None for not known."""

    def __init__(
        self,
        read_j: Callable[[], float | None],
        source: str = "the app's own meter",
        period_s: float = 1.0,
        clock: Clock = time.monotonic,
    ) -> None:
        """Raises: OSError if it is not known at the start."""
        super().__init__("app", source, [Counter(_known(read_j))], period_s, clock)


def _known(read_j: Callable[[], float | None]) -> Callable[[], float]:
    def read() -> float:
        value = read_j()
        if value is None or not math.isfinite(value):
            raise OSError(f"it gave {value}")
        return float(value)

    return read
