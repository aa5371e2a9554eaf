"""What a stream's steps used, by a meter's readings from one step to the next."""

from __future__ import annotations

from dataclasses import dataclass

from sdk.power.meter import Meter


@dataclass(frozen=True, slots=True)
class StepEnergy:
    """The meter's joules after a step, and mJ since the step before; None where not known, and why."""

    total_j: float | None
    step_mj: float | None
    source: str
    problem: str | None


class EnergyWindow:
    """The energy of the whole device between two readings."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self.begin()

    def begin(self) -> float | None:
        """Count from now; the meter's joules, None where not known."""
        self._last_j = self._meter.read()
        return self._last_j

    def read(self) -> float | None:
        """The meter's joules now, None where not known; what a step used is counted on as it was."""
        return self._meter.read()

    def step(self, worked_ms: float, worked_mj: float | None = None) -> StepEnergy:
        """The energy since the last reading; what a step's work took meanwhile, for meters that are models.

        ``worked_mj`` is what the cost table says that it takes, if it does.
        """
        self._meter.record_work(worked_ms, worked_mj)
        now_j, last_j = self._meter.read(), self._last_j
        self._last_j = now_j
        step_mj = None if now_j is None or last_j is None else (now_j - last_j) * 1e3
        return StepEnergy(now_j, step_mj, self._meter.source, self._meter.error)
