"""Sustained runs on a device that grows hot and slow."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdk.benchmark.sustained import sustain
from sdk.power import ModeledMeter
from sdk.results import Latency, Recognition
from tests.sdk.power.sysfs import write


def stream() -> Iterator[Recognition]:
    """Three steps of 5 ms."""
    for step in range(3):
        time.sleep(0.005)
        latency = Latency(queue=0, decode=0, resize=0, policy=0, branch=5, post=0, total=5)
        yield Recognition(step * 0.1, step, "disc", 1.0, (), "rgb", "fp32", latency, 0, False)


def test_each_minute_with_power_heat_and_throttling(tmp_path: Path) -> None:
    write(tmp_path / "sys/class/thermal/thermal_zone0/temp", 61500)
    write(tmp_path / "sys/class/thermal/thermal_zone0/type", "cpu")
    write(tmp_path / "sys/class/thermal/cooling_device0/type", "cpufreq-cpu0")
    write(tmp_path / "sys/class/thermal/cooling_device0/cur_state", 1)
    minutes = list(sustain(stream, 2.5, ModeledMeter(2.0, 3.0), minute_s=0.1, root=tmp_path))
    assert [minute.number for minute in minutes] == [1, 2, 3]
    for minute in minutes:
        assert minute.p50_ms == minute.p95_ms == 5 and minute.steps >= 5
        assert minute.power_w == pytest.approx(4.7, abs=0.6)  # 2 W idle, and 3 W while it works
        assert minute.temperature_c == 61.5 and minute.slowed_by == ("cpufreq-cpu0",)


def test_what_is_not_told_is_none(tmp_path: Path) -> None:
    (minute,) = sustain(stream, 0.5, minute_s=0.1, root=tmp_path)
    assert (minute.power_w, minute.temperature_c, minute.slowed_by) == (None, None, None)
