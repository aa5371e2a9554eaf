"""Whatever else zeus can measure (Apple silicon, AMD), if it is installed."""

from __future__ import annotations

import importlib
from typing import Any

from sdk.power.meter import Counter, CounterMeter

PERIOD_S = 0.1


def zeus_meter() -> CounterMeter | None:
    """A meter of zeus' system-on-chip energy; None if zeus is not installed or measures none here.

    Only its Apple back-end is taken: on Jetson zeus sums the wrong rails, and the others are read directly.
    """
    try:
        apple: Any = importlib.import_module("zeus.device.soc.apple")
        soc: Any = apple.AppleSilicon()
    except Exception:  # not installed, or not this machine: what is raised differs by version and platform
        return None

    def read_j() -> float:
        try:
            measured = soc.get_total_energy_consumption()
        except Exception as error:
            raise OSError(str(error)) from None
        parts = ("cpu_total_mj", "gpu_mj", "dram_mj")
        found = [getattr(measured, part, None) for part in parts]
        if all(part is None for part in found):
            raise OSError("zeus gave no energy")
        return sum(part for part in found if part is not None) / 1e3

    try:
        return CounterMeter("package", "Apple processor, GPU and memory (zeus)", [Counter(read_j)], PERIOD_S)
    except OSError:
        return None
