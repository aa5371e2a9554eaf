"""What every meter is built on: counts that wrap, jump, freeze or fail, and power over time."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdk.power.app import AppMeter
from sdk.power.meter import Counter, CounterMeter, MeterError, PowerMeter
from sdk.power.modeled import ModeledMeter


class Device:
    """A clock that is set, and what a reading gives at it; None: it fails."""

    def __init__(self, value: float | None = 0.0) -> None:
        self.now_s, self.value = 0.0, value

    def clock(self) -> float:
        return self.now_s

    def read(self) -> float:
        if self.value is None:
            raise OSError(5, "Input/output error")
        return self.value


def counting(device: Device, wraps_at_j: float | None = None) -> CounterMeter:
    return CounterMeter("package", "test", [Counter(device.read, wraps_at_j)], 0.1, device.clock)


def test_a_counter_counts_from_where_it_started() -> None:
    device = Device(100.0)
    meter = counting(device)
    assert meter.read() == 0.0
    device.now_s, device.value = 1.0, 130.0
    assert meter.read() == 30.0 and meter.error is None


@given(st.lists(st.floats(0, 50), min_size=1, max_size=40), st.floats(60, 1000), st.floats(0, 1))
def test_wraps_lose_nothing(steps: list[float], wraps_at_j: float, start: float) -> None:
    true_j = start * wraps_at_j * 0.99
    device = Device(true_j)
    meter = counting(device, wraps_at_j)
    for step in steps:
        true_j += step
        device.now_s += 1.0
        device.value = true_j % wraps_at_j
        read = meter.read()
        assert read is not None
    assert read == pytest.approx(sum(steps), abs=1e-6)


@pytest.mark.parametrize(
    ("value", "failure"), [(90.0, "went back"), (1e6, "jumped by"), (None, "Input/output")]
)
def test_a_fault_is_unknown_once_and_never_zero(value: float | None, failure: str) -> None:
    device = Device(100.0)
    meter = counting(device)
    device.now_s, device.value = 1.0, 110.0
    assert meter.read() == 10.0
    device.now_s, device.value = 2.0, value
    assert meter.read() is None
    assert meter.error is not None and failure in meter.error
    device.now_s, device.value = 3.0, (110.0 if value is None else value) + 5.0
    assert meter.read() == 15.0 and meter.error is None


def test_a_frozen_counter_is_unknown_until_it_moves() -> None:
    device = Device(100.0)
    meter = counting(device)
    device.now_s = 9.0
    assert meter.read() == 0.0
    device.now_s = 11.0
    assert meter.read() is None and meter.error == "has not moved for 11 s"
    device.now_s, device.value = 12.0, 130.0
    assert meter.read() == 30.0 and meter.error is None


def test_power_is_integrated_by_the_trapezoid_rule() -> None:
    device = Device(4.0)
    with PowerMeter("rails", "test", device.read, 3600.0, device.clock) as meter:
        device.now_s, device.value = 1.0, 8.0
        meter.sample()
        assert meter.read() == pytest.approx(6.0)
        device.now_s = 1.5  # the last reading holds
        assert meter.read() == pytest.approx(10.0)


def test_power_that_cannot_be_read_is_unknown_until_it_can() -> None:
    device = Device(4.0)
    with PowerMeter("rails", "test", device.read, 0.5, device.clock) as meter:
        device.value = None
        meter.sample()
        assert meter.read() is None and "Input/output" in str(meter.error)
        device.now_s, device.value = 2.0, 4.0
        meter.sample()
        assert (
            meter.read() == 0.0 and meter.error is None
        )  # what was used meanwhile is not known: not counted


def test_power_that_stays_away_is_unknown() -> None:
    device = Device(4.0)
    with PowerMeter("rails", "test", device.read, 0.1, device.clock) as meter:
        meter.close()
        device.now_s = 10.0
        assert meter.read() is None and "no reading for 10" in str(meter.error)


def test_power_is_sampled_by_its_own_thread() -> None:
    reads: list[float] = []

    def read_w() -> float:
        reads.append(time.monotonic())
        return 2.0

    with PowerMeter("rails", "test", read_w, 0.01) as meter:
        began = time.monotonic()
        while len(reads) < 5:
            time.sleep(0.005)
        joules, elapsed_s = meter.read(), time.monotonic() - began
    assert joules == pytest.approx(2.0 * elapsed_s, abs=0.1)
    count = len(reads)
    time.sleep(0.05)
    assert len(reads) == count, "closing ends the thread"


def test_what_an_app_does_not_know_is_unknown() -> None:
    device = Device(7.0)
    meter = AppMeter(lambda: device.value, clock=device.clock)
    device.now_s, device.value = 1.0, 9.5
    assert meter.read() == 2.5 and meter.kind == "app"
    device.value = None
    assert meter.read() is None
    device.value = float("nan")
    assert meter.read() is None


def test_the_model_is_idle_and_work() -> None:
    device = Device()
    meter = ModeledMeter(idle_w=2.0, busy_w=5.0, clock=device.clock)
    device.now_s = 10.0
    meter.record_work(400.0)
    assert meter.read() == pytest.approx(2.0 * 10 + 5.0 * 0.4)
    assert meter.kind == "modeled" and "modeled" in meter.source


@pytest.mark.parametrize(
    ("idle_w", "busy_w", "named"),
    [
        (-1.0, 1.0, "idle_w -1.0"),
        (1.0, float("nan"), "busy_w nan"),
        (float("inf"), 1.0, "idle_w inf"),
        ("a", None, "idle_w 'a'"),
        (2, True, "busy_w True"),
    ],
)
def test_a_model_of_impossible_power_is_refused(idle_w: Any, busy_w: Any, named: str) -> None:
    with pytest.raises(MeterError, match=f"ModeledMeter {named}: is not a power; give W, 0 or more"):
        ModeledMeter(idle_w, busy_w)
