"""Dynamic energy: what work takes beyond what the device draws while idle."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sdk.power.meter import Meter, MeterError

_ROUNDS = 3
_SPAN_S, _SPAN_PERIODS = 0.5, 10
"""Each turn lasts half a second, or ten of the meter's periods: its grain is then some per cent at most."""


@dataclass(frozen=True, slots=True)
class DynamicEnergy:
    """``idle_w``: of the device doing nothing. ``run_mj``: of one run of each call beyond that.

    None for a call whose energy cannot be separated from the idle device's.
    """

    idle_w: float
    run_mj: tuple[float | None, ...]


def dynamic_energy(
    meter: Meter, calls: Sequence[Callable[[], object]], span_s: float | None = None
) -> DynamicEnergy:
    """Let the device idle, then repeat each call, by turns in rounds; the rounds' medians.

    ``span_s``: how long each turn lasts at least. What other programs draw meanwhile counts as idle.

    Raises: MeterError if the meter does not know.
    """
    span_s = max(_SPAN_S, _SPAN_PERIODS * meter.period_s) if span_s is None else span_s
    idle, runs = [], []
    for _ in range(_ROUNDS):
        idle_w = _idle_w(meter, span_s)
        idle.append(idle_w)
        runs.append([_run_j(meter, call, span_s, idle_w) * 1e3 for call in calls])
    medians = np.median(np.array(runs).reshape(_ROUNDS, len(calls)), axis=0)
    return DynamicEnergy(float(np.median(idle)), tuple(float(mj) if mj > 0 else None for mj in medians))


def _idle_w(meter: Meter, span_s: float) -> float:
    began_s, began_j = time.perf_counter(), _read(meter)
    time.sleep(span_s)
    return (_read(meter) - began_j) / (time.perf_counter() - began_s)


def _run_j(meter: Meter, call: Callable[[], object], span_s: float, idle_w: float) -> float:
    """Joules of one run beyond the idle device's."""
    runs, elapsed_s = 0, 0.0
    began_s, began_j = time.perf_counter(), _read(meter)
    while elapsed_s < span_s:
        last_s = elapsed_s
        call()
        elapsed_s = time.perf_counter() - began_s
        meter.record_work((elapsed_s - last_s) * 1e3)
        runs += 1
    return (_read(meter) - began_j - idle_w * elapsed_s) / runs


def _read(meter: Meter) -> float:
    joules = meter.read()
    if joules is None:
        fix = "give modeled:IDLE_W,MORE_W, or one that adaptive-inspect --power lists"
        raise MeterError(
            f"meter ({meter.source})", f"gives no energy: {meter.error or 'it does not say why'}", fix
        )
    return joules
