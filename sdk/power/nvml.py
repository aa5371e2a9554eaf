"""NVIDIA GPUs other than Jetson's, through nvidia-ml-py (``pynvml``), if it is installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from sdk.power.meter import Counter, CounterMeter, Meter, MeterError, PowerMeter

PERIOD_S = 0.1


def nvml_meter(index: int = 0) -> Meter | None:
    """A meter of one GPU: its own energy counter, or its power sampled where it has none (before Volta).

    None if nvidia-ml-py is not installed. Raises: MeterError if there is no driver, no such GPU, or it
    reports neither.
    """
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
        device = nvml.nvmlDeviceGetHandleByIndex(index)
    except nvml.NVMLError as error:
        raise MeterError(f"GPU {index}", f"NVML says: {error}", "check it with nvidia-smi") from None
    name = nvml.nvmlDeviceGetName(device)
    source = f"GPU {index}, {name.decode() if isinstance(name, bytes) else name} (NVML)"
    try:
        read_j = _reading(lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(device) / 1e3, nvml.NVMLError)
        return CounterMeter("gpu", source, [Counter(read_j)], PERIOD_S)
    except OSError:
        pass
    try:
        read_w = _reading(lambda: nvml.nvmlDeviceGetPowerUsage(device) / 1e3, nvml.NVMLError)
        return PowerMeter("gpu", source, read_w, PERIOD_S)
    except OSError as error:
        raise MeterError(source, f"reports no energy and no power ({error})", "use another meter") from None


def _reading(read: Callable[[], float], failure: type[Exception]) -> Callable[[], float]:
    """``read``, with the library's errors as OSError."""

    def checked() -> float:
        try:
            return float(read())
        except failure as error:
            raise OSError(str(error)) from None

    return checked
