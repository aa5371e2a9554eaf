"""Temperature and battery of this machine, through sysfs: what budgets of heat and battery life go by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_MICRO = 1e-6
_SECONDS_AN_HOUR = 3600.0


@dataclass(frozen=True)
class Sensor:
    """Something that can be read, and where the number comes from; ``read`` gives None where it fails."""

    source: str
    read: Callable[[], float | None]


def find_thermometer(root: Path = Path("/")) -> Sensor | None:
    """Degrees Celsius of the hottest of this machine's thermal zones; None if it shows none.

    Zones that cannot be read now are left out.
    """
    zones = [zone / "temp" for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*"))]
    zones = [zone for zone in zones if _number(zone) is not None]
    if not zones:
        return None
    names = ", ".join(sorted({_text(zone.parent / "type") or zone.parent.name for zone in zones}))

    def read() -> float | None:
        read = [_number(zone) for zone in zones]
        known = [value for value in read if value is not None]
        return max(known) / 1e3 if known else None

    return Sensor(f"hottest of {names}", read)


def find_battery(root: Path = Path("/")) -> Sensor | None:
    """Joules left in this machine's batteries together; None if it has none that says."""
    supplies = sorted((root / "sys/class/power_supply").glob("*"))
    batteries = [s for s in supplies if _text(s / "type") == "Battery" and _joules(s) is not None]
    if not batteries:
        return None

    def read() -> float | None:
        left = [_joules(battery) for battery in batteries]
        return None if None in left else sum(joules for joules in left if joules is not None)

    return Sensor(f"battery {', '.join(battery.name for battery in batteries)}", read)


def _joules(battery: Path) -> float | None:
    """``energy_now`` in uWh, or ``charge_now`` in uAh at ``voltage_now`` in uV."""
    energy = _number(battery / "energy_now")
    if energy is not None:
        return energy * _MICRO * _SECONDS_AN_HOUR
    charge, voltage = _number(battery / "charge_now"), _number(battery / "voltage_now")
    if charge is None or voltage is None:
        return None
    return charge * _MICRO * voltage * _MICRO * _SECONDS_AN_HOUR


def _number(file: Path) -> float | None:
    text = _text(file)
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _text(file: Path) -> str | None:
    try:
        return file.read_text().strip()
    except OSError:
        return None
