"""The simulated device: what it draws, how hot it gets, and how its meter lies."""

from __future__ import annotations

import pytest

from sdk.power.simulated import Body, Probe, SimulatedDevice


def device(**fields: object) -> SimulatedDevice:
    return SimulatedDevice(**({"idle_w": 2.0, "run_j": {"net": 0.5}, "run_s": {"net": 0.1}} | fields))  # type: ignore[arg-type]


def test_it_draws_what_is_idle_what_runs_and_what_else_there_is() -> None:
    made = device(loads=((5.0, 3.0), (8.0, 0.0)))
    for second in range(1, 11):
        made.advance(float(second))
        assert made.run("net") == 0.1
    assert made.used_j == pytest.approx(10 * 2.0 + 10 * 0.5 + 3 * 3.0, abs=0.4)


def test_it_warms_up_throttles_and_recovers() -> None:
    made = device(body=Body(ambient_c=20, heats_c=10, time_s=10, throttles_c=60, recovers_c=50, slower=2.0))
    assert made.temperature_c == 40
    seen = set()
    for tenth in range(1, 1200):
        made.advance(tenth / 10)
        if tenth < 600:
            took_s = made.run("net")
            seen.add((made.throttled, took_s))
    assert seen == {(False, 0.1), (True, 0.2)}
    assert not made.throttled and made.temperature_c == pytest.approx(40, abs=1)


def test_its_meter() -> None:
    made = device(probe=Probe(grain_j=0.5, delay_s=1.0, freezes_s=20, dies_s=40))
    meter = made.meter()
    made.advance(10)
    read = meter.read()
    assert read == pytest.approx(18.0, abs=0.5) and read % 0.5 == 0
    made.advance(25)
    assert meter.read() == pytest.approx(38.0, abs=0.6)
    made.advance(38)
    assert meter.read() is None and "has not moved" in str(meter.error)
    made.advance(41)
    assert meter.read() is None and "it gave None" in str(meter.error)
