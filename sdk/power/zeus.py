"""Whatever else zeus can measure (Apple silicon, AMD), if it is installed."""

from __future__ import annotations

import importlib
from typing import Any

from sdk.power.meter import Counter, CounterMeter, MeterError

PERIOD_S = 0.1


def zeus_meter() -> CounterMeter | None:
    """A meter of zeus' system-on-chip energy; None if zeus is not installed, or this is no Apple processor.

    Only its Apple back-end is taken: on Jetson zeus sums the wrong rails, and the others are read directly.

    Raises: MeterError if zeus cannot start it; OSError if it gives no energy.
    """
    try:
        apple: Any = importlib.import_module("zeus.device.soc.apple")
    except ImportError:
        return None
    if not apple.apple_silicon_is_available():
        return None
    try:
        soc: Any = apple.AppleSilicon()
    except apple.ZeusAppleInitError as error:
        raise MeterError("Apple processor", f"zeus says: {error}", "check it with zeus itself") from None

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

    return CounterMeter("package", "Apple processor, GPU and memory (zeus)", [Counter(read_j)], PERIOD_S)
