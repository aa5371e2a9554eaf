"""x86 processors: the energy of their packages, through powercap (RAPL)."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

from sdk.power.meter import Counter, CounterMeter, MeterError

PERIOD_S = 0.001
_MICRO = 1e-6
_LONGEST = 32


def package_folders(root: Path = Path("/")) -> list[Path]:
    """The powercap folder of each package, parts of packages apart."""
    zones = sorted((root / "sys/class/powercap").glob("intel-rapl:*"))
    return [zone for zone in zones if zone.name.count(":") == 1 and _name(zone).startswith("package")]


def rapl_meter(root: Path = Path("/")) -> CounterMeter | None:
    """A meter of all packages; None if there are none.

    Raises: MeterError without permission: since 2020 kernels let only root read the counters.
    """
    folders = package_folders(root)
    if not folders:
        return None
    source = f"package energy of {', '.join(_name(folder) for folder in folders)} (RAPL)"
    try:
        return CounterMeter("package", source, [_counter(folder) for folder in folders], PERIOD_S)
    except PermissionError as error:
        fix = "run as root, or make energy_uj readable (chmod a+r, until the next start)"
        raise MeterError(error.filename, "may be read by root alone", fix) from None


def _name(zone: Path) -> str:
    file = zone / "name"
    return file.read_text().strip() if file.is_file() else ""


def _counter(folder: Path) -> Counter:
    wraps_at_j = float((folder / "max_energy_range_uj").read_text()) * _MICRO
    # Kept open: it is read at every step, and opening takes most of the time of that.
    descriptor = os.open(folder / "energy_uj", os.O_RDONLY | os.O_CLOEXEC)
    return Counter(
        lambda: float(os.pread(descriptor, _LONGEST, 0)) * _MICRO,
        wraps_at_j,
        close=partial(os.close, descriptor),
    )
