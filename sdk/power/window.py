"""What a stream's steps used, by a meter's readings from one step to the next."""

from __future__ import annotations

from sdk.power.meter import Meter


class EnergyWindow:
    """The energy of the whole device between two readings."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self.source = meter.source
        self.begin()

    def begin(self) -> None:
        """Count from now."""
        self._last_j = self._meter.read()

    def step_mj(self, worked_ms: float) -> float | None:
        """Energy (mJ) since the last reading, None where either is unknown; ``worked_ms``: work meanwhile."""
        self._meter.worked(worked_ms)
        now_j, last_j = self._meter.read(), self._last_j
        self._last_j = now_j
        return None if now_j is None or last_j is None else (now_j - last_j) * 1e3
