"""What this machine is: its name, its cores, its accelerator's driver, the memory this process holds."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

_DEVICE_TREE = Path("/proc/device-tree/model")
_CPUINFO = Path("/proc/cpuinfo")
_NVIDIA = (
    Path("/proc/driver/nvidia/version"),
    Path("/etc/nv_tegra_release"),
    *sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")),
)


@cache
def cpu_model() -> str:
    """The processor's model, e.g. ``AMD EPYC (25/17/1)``: family, model and stepping tell kernels apart."""
    fields: dict[str, str] = {}
    if _CPUINFO.exists():
        for line in _CPUINFO.read_text().splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip(), value.strip())
    name = fields.get("model name") or fields.get("Model") or platform.processor() or platform.machine()
    numbers = [fields[key] for key in ("cpu family", "model", "stepping", "CPU part") if key in fields]
    return f"{name} ({'/'.join(numbers)})" if numbers else name


@cache
def device_name() -> str:
    """Name that cost tables are kept under: the board's, or else the processor's with its cores."""
    if _DEVICE_TREE.exists():
        return _DEVICE_TREE.read_text().strip("\0 \n")
    return f"{cpu_model()} x{physical_cores()}"


@cache
def sums_int8_exactly() -> bool:
    """Whether the processor multiplies uint8 by int8 into sums that cannot overflow.

    x86 does with VNNI. Without it, runtimes take an instruction that adds two products in 16 bits and
    saturates, unless they are asked not to. Where the processor does not say, it is taken to be one of these.
    """
    if platform.machine().lower() not in ("x86_64", "amd64", "i386", "i686", "x86"):
        return True
    if not _CPUINFO.exists():
        return False
    flags = {
        flag
        for line in _CPUINFO.read_text().splitlines()
        if line.startswith("flags")
        for flag in line.split()
    }
    return bool(flags & {"avx512_vnni", "avx_vnni", "amx_int8"})


@cache
def physical_cores() -> int:
    """Cores this process may use, counting the hardware threads of one core once."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    siblings = set()
    for cpu in allowed:
        listed = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        siblings.add(listed.read_text().strip() if listed.exists() else str(cpu))
    return len(siblings)


def accelerator_identity() -> str:
    """What an engine built for the NVIDIA accelerator depends on: the board's and the driver's own words."""
    return "\n".join(path.read_text() for path in _NVIDIA if path.exists())


def process_memory_mb() -> float | None:
    """Proportional share of the memory this process holds, in MB; None where the system does not say."""
    try:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    kilobytes = next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), None)
    return None if kilobytes is None else kilobytes / 1024
