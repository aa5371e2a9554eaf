"""Energy booked step by step: lumps, silence and spans."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdk.budget.metered_energy import LAGS_S, MeteredEnergy, RecentPower


def booked(readings: list[float | None], expected_j: float = 0.5, step_s: float = 0.1) -> list[float]:
    metered = MeteredEnergy(2)
    return [
        metered.record_step(number * step_s, reading, (0,), expected_j)[0]
        for number, reading in enumerate(readings)
    ]


def test_what_the_meter_says_is_booked() -> None:
    assert booked([5.0, 5.2, 5.7]) == pytest.approx([0.0, 0.2, 0.5])


def test_lumps_are_spread_and_put_right() -> None:
    """The meter counts in lumps of 1 J: until one comes, what was expected stands in."""
    assert booked([5.0, 5.0, 5.0, 6.0]) == pytest.approx([0.0, 0.5, 0.5, 0.0])


@given(st.lists(st.floats(0.0, 2.0), min_size=1, max_size=30))
def test_in_the_end_all_is_booked(steps: list[float]) -> None:
    readings = np.floor(np.cumsum([0.0, *steps])).tolist()
    booked_j = booked(readings)
    unsettled = len(readings) - 1 - max(i for i, r in enumerate(readings) if i == 0 or r != readings[i - 1])
    assert sum(booked_j) == pytest.approx(readings[-1] + 0.5 * unsettled)


def test_silence_is_what_was_expected() -> None:
    metered = MeteredEnergy(2)
    metered.record_step(0.0, 5.0, (0,), 0.5)
    assert not metered.unmetered
    assert metered.record_step(0.1, None, (0,), 0.5)[0] == 0.5 and metered.unmetered
    assert (
        metered.record_step(0.2, 9.0, (0,), 0.5)[0] == 0.5 and not metered.unmetered
    )  # what passed meanwhile is not known
    assert metered.record_step(0.3, 9.3, (0,), 0.5)[0] == pytest.approx(0.3)


def test_spans_count_what_ran_by_the_meters_lag() -> None:
    metered, spans = MeteredEnergy(3), []
    for number in range(41):
        ran = (0, 1) if number < 20 else (0, 2)
        span = metered.record_step(number / 10, number * 0.2, ran, 0.2)[1]
        spans += [] if span is None else [span]
    assert [round(span.seconds, 6) for span in spans] == [1.0, 1.0, 1.0, 1.0]
    assert [span.energy_j for span in spans] == pytest.approx([2.0] * 4)
    np.testing.assert_array_equal(spans[0].runs[0], [10, 10, 0])
    np.testing.assert_array_equal(spans[2].runs[0], [10, 0, 10])
    assert LAGS_S[2] == 0.3
    np.testing.assert_array_equal(spans[2].runs[2], [10, 2, 8])  # from 1.7 to 2.7 s


def test_recent_power_is_of_half_a_minute() -> None:
    power = RecentPower(100.0)
    assert power.watts is None
    for second in range(1, 61):
        power.record_use(100.0 + second, 5.0 if second <= 20 else 2.0)
    assert power.watts == pytest.approx(2.0) and power.seconds == pytest.approx(30, abs=1.5)


def test_what_was_expected_of_a_meter_that_stands_still_is_put_right_after_a_restart() -> None:
    """Streams may be shorter than a meter's lumps."""
    metered = MeteredEnergy(2)
    metered.restart(0.0, 10.0)
    assert metered.record_step(1.0, 10.0, (), 2.0)[0] == 2.0
    metered.restart(1.0, 10.0)
    assert metered.record_step(2.0, 10.0, (), 2.0)[0] == 2.0
    assert metered.record_step(3.0, 15.0, (), 2.0)[0] == 1.0


def test_what_runs_in_the_instant_of_a_restart_is_part_of_the_span() -> None:
    metered = MeteredEnergy(2)
    metered.restart(5.0, 10.0)
    metered.record_step(5.0, 13.0, (0, 1), 0.0)
    _, span = metered.record_step(6.0, 16.0, (0, 1), 0.0)
    assert span is not None and span.energy_j == 6.0 and span.runs[0].tolist() == [2.0, 2.0]
