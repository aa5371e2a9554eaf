"""Temperature and battery by sysfs, and what is not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdk.power import find_battery, find_thermometer
from tests.sdk.power.sysfs import write


def test_the_hottest_zone_counts(tmp_path: Path) -> None:
    zones = tmp_path / "sys/class/thermal"
    for number, (kind, value) in enumerate((("cpu-thermal", 41500), ("tj-thermal", 56250), ("off", ""))):
        write(zones / f"thermal_zone{number}/type", kind)
        write(zones / f"thermal_zone{number}/temp", value)
    sensor = find_thermometer(tmp_path)
    assert sensor is not None and sensor.source == "hottest of cpu-thermal, tj-thermal"
    assert sensor.read() == 56.25
    write(zones / "thermal_zone1/temp", "")
    assert sensor.read() == 41.5
    write(zones / "thermal_zone0/temp", "")
    assert sensor.read() is None


def test_no_zone_no_thermometer(tmp_path: Path) -> None:
    assert find_thermometer(tmp_path) is None and find_battery(tmp_path) is None


@pytest.mark.parametrize(
    "files", [{"energy_now": 20_000_000}, {"charge_now": 2_000_000, "voltage_now": 10_000_000}]
)
def test_joules_left(files: dict[str, int], tmp_path: Path) -> None:
    supplies = tmp_path / "sys/class/power_supply"
    write(supplies / "BAT0/type", "Battery")
    write(supplies / "AC/type", "Mains")
    write(supplies / "AC/energy_now", 1)
    for name, value in files.items():
        write(supplies / "BAT0" / name, value)
    sensor = find_battery(tmp_path)
    assert sensor is not None and sensor.source == "battery BAT0"
    assert sensor.read() == pytest.approx(20 * 3600)
    (supplies / "BAT0" / next(iter(files))).unlink()
    assert sensor.read() is None
