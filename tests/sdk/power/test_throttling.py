"""What slows a machine down, by the documented sysfs layouts."""

from __future__ import annotations

from pathlib import Path

from sdk.power.throttling import find_throttling
from tests.sdk.power.sysfs import write


def test_cooling_devices_alarms_and_hot_cores(tmp_path: Path) -> None:
    thermal, cpu = tmp_path / "sys/class/thermal", tmp_path / "sys/devices/system/cpu"
    for number, (kind, state) in enumerate({"cpufreq-cpu0": 0, "pwm-fan": 3, "intel_powerclamp": -1}.items()):
        write(thermal / f"cooling_device{number}/type", kind)
        write(thermal / f"cooling_device{number}/cur_state", state)
    write(tmp_path / "sys/class/hwmon/hwmon3/curr1_crit_alarm", 0)
    write(cpu / "cpu0/thermal_throttle/core_throttle_count", 7)
    throttling = find_throttling(tmp_path)
    assert throttling is not None and throttling.read() == ()
    write(thermal / "cooling_device0/cur_state", 2)
    write(tmp_path / "sys/class/hwmon/hwmon3/curr1_crit_alarm", 1)
    write(cpu / "cpu0/thermal_throttle/core_throttle_count", 9)
    assert throttling.read() == ("cpufreq-cpu0", "hot cores", "over-current alarm")
    write(thermal / "cooling_device0/cur_state", 0)
    write(tmp_path / "sys/class/hwmon/hwmon3/curr1_crit_alarm", 0)
    assert throttling.read() == ()


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    assert find_throttling(tmp_path) is None
