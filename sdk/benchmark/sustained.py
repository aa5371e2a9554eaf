"""A sustained run: what a pipeline takes minute by minute, once the device has grown warm."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sdk.power import Meter, find_thermometer
from sdk.power.throttling import find_throttling
from sdk.results import Recognition

_MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class Minute:
    """One minute of a sustained run.

    ``p50_ms``, ``p95_ms``: of its steps. ``power_w``: its average. ``slowed_by``: what slowed the device down
    at its end, empty if nothing did. None where it is not measured.
    """

    number: int
    steps: int
    p50_ms: float
    p95_ms: float
    power_w: float | None
    temperature_c: float | None
    slowed_by: tuple[str, ...] | None


def sustain(
    stream: Callable[[], Iterator[Recognition]],
    minutes: float,
    meter: Meter | None = None,
    *,
    minute_s: float = _MINUTE_S,
    root: Path = Path("/"),
) -> Iterator[Minute]:
    """Take ``stream()`` over and over for so many ``minutes``, as fast as it goes."""
    thermometer, throttling = find_thermometer(root), find_throttling(root)
    began_s = time.monotonic()
    steps = _endless(stream)
    number = 0
    while time.monotonic() - began_s < minutes * minute_s:
        number += 1
        until_s = began_s + min(number, minutes) * minute_s
        from_s, from_j = time.monotonic(), None if meter is None else meter.read()
        spent = []
        while time.monotonic() < until_s:
            took_ms = next(steps).latency_ms.total
            spent.append(took_ms)
            if meter is not None:
                meter.record_work(took_ms)
        if not spent:
            return
        p50_ms, p95_ms = np.percentile(spent, (50, 95))
        yield Minute(
            number,
            len(spent),
            float(p50_ms),
            float(p95_ms),
            _power_w(meter, from_j, time.monotonic() - from_s),
            None if thermometer is None else thermometer.read(),
            None if throttling is None else throttling.read(),
        )


def _endless(stream: Callable[[], Iterator[Recognition]]) -> Iterator[Recognition]:
    while True:
        yield from stream()


def _power_w(meter: Meter | None, from_j: float | None, seconds: float) -> float | None:
    to_j = None if meter is None else meter.read()
    return None if from_j is None or to_j is None else (to_j - from_j) / seconds
