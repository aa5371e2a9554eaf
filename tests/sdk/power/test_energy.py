"""The energy of a stream's steps: by the meter that the app gives, and None where it does not know."""

from __future__ import annotations

import pytest

from runtimes.bundle import Bundle
from sdk import StreamRecognizer
from sdk.power import AppMeter, EnergyWindow, MeterError, ModeledMeter, open_meter
from tests.sdk.films import film

STEPS = 6


class Counted:
    """An app's meter that gives one more joule at every reading, or nothing."""

    def __init__(self, *unknown: int) -> None:
        self.reads, self.unknown = 0, unknown

    def __call__(self) -> float | None:
        self.reads += 1
        return None if self.reads in self.unknown else float(self.reads)


def test_every_step_has_what_was_used_since_the_one_before(bundle: Bundle) -> None:
    with StreamRecognizer(bundle, "cpu", meter=AppMeter(Counted(), "a wall meter")) as recognizer:
        results = list(recognizer.stream(film([200] * STEPS, recognizer.rate_hz)))
        statistics = recognizer.stats()
    assert [result.energy_mj for result in results] == [1000.0] * STEPS
    assert {result.energy_source for result in results} == {"a wall meter"}
    assert (statistics.energy_mj, statistics.energy_steps) == (1000.0 * STEPS, STEPS)
    assert statistics.energy_source == "a wall meter"


def test_what_is_not_known_is_none_and_not_zero(bundle: Bundle) -> None:
    """The meter fails once, at the third step: neither that step's energy nor the next one's is known."""
    with StreamRecognizer(bundle, "cpu", meter=AppMeter(Counted(7))) as recognizer:
        results = list(recognizer.stream(film([200] * STEPS, recognizer.rate_hz)))
        statistics = recognizer.stats()
    known = [result.energy_mj for result in results]
    assert known == [1000.0, 1000.0, None, None, 1000.0, 1000.0]
    assert statistics.energy_steps == 4


def test_without_a_meter_nothing_is_said(bundle: Bundle) -> None:
    with StreamRecognizer(bundle, "cpu") as recognizer:
        results = list(recognizer.stream(film([200] * STEPS, recognizer.rate_hz)))
        assert recognizer.stats().energy_mj is None
    assert {(result.energy_mj, result.energy_source) for result in results} == {(None, None)}


def test_a_window_tells_the_model_of_the_work() -> None:
    now_s = [0.0]
    window = EnergyWindow(ModeledMeter(2.0, 10.0, clock=lambda: now_s[0]))
    now_s[0] = 0.5
    assert window.step(worked_ms=20.0).step_mj == pytest.approx(0.5 * 2e3 + 0.02 * 10e3)
    assert window.step(worked_ms=0.0).step_mj == 0.0


def test_a_model_may_go_by_the_cost_table() -> None:
    now_s = [0.0]
    window = EnergyWindow(ModeledMeter(2.0, clock=lambda: now_s[0]))
    now_s[0] = 0.5
    assert window.step(worked_ms=20.0, worked_mj=30.0).step_mj == pytest.approx(0.5 * 2e3 + 30.0)
    unknown = window.step(worked_ms=20.0)
    assert unknown.step_mj is None and "has no energies" in str(unknown.problem)


def test_models_as_text() -> None:
    meter = open_meter("modeled:2,5")
    assert isinstance(meter, ModeledMeter) and (meter.idle_w, meter.busy_w) == (2.0, 5.0)
    meter = open_meter("modeled:2")
    assert isinstance(meter, ModeledMeter) and meter.busy_w is None and "cost table" in meter.source


@pytest.mark.parametrize("text", ["modeled", "modeled:a", "modeled:a,b", "modeled:-1,2", "modeled:1,2,3"])
def test_models_that_are_not_understood(text: str) -> None:
    with pytest.raises(MeterError, match="give powers in W"):
        open_meter(text)
