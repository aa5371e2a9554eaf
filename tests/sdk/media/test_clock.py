from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdk.media import StepClock, Tick

rates = st.floats(0.1, 240)


def steps(clock: StepClock, times: list[float]) -> list[int]:
    return [index for index, time_s in enumerate(times) if clock.due(time_s)]


def test_takes_every_frame_of_a_source_at_its_own_rate() -> None:
    assert steps(StepClock(4), [k / 4 for k in range(16)]) == list(range(16))


def test_takes_every_other_frame_at_half_the_rate() -> None:
    assert steps(StepClock(4), [k / 8 for k in range(32)]) == list(range(0, 32, 2))


def test_times_rounded_to_milliseconds_lose_no_step() -> None:
    for offset in range(300):
        times = [round(offset / 7 + k / 15, 3) for k in range(60)]
        assert steps(StepClock(15), times) == list(range(60))


def test_slow_source_gives_one_step_per_frame() -> None:
    assert steps(StepClock(10), [0.0, 1.0, 1.05, 1.1, 2.0]) == [0, 1, 3, 4]


def test_gap_and_backward_time_restart_and_say_so() -> None:
    clock = StepClock(1, gap_s=2)
    ticks = [clock.tick(time_s) for time_s in (0.0, 1.0, 9.5, 10.0, 10.5, 3.0)]
    expected = [Tick.STEP, Tick.STEP, Tick.STEP_AFTER_GAP, Tick.NO, Tick.STEP, Tick.STEP_AFTER_GAP]
    assert ticks == expected


def test_small_disorder_is_no_step_and_no_gap() -> None:
    clock = StepClock(25)
    assert [clock.tick(k / 25) for k in (0, 1, 3, 2, 4)] == [Tick.STEP] * 3 + [Tick.NO, Tick.STEP]


def test_restart_before_the_first_frame_is_no_gap() -> None:
    clock = StepClock(1)
    clock.restart()
    assert clock.tick(5.0) is Tick.STEP
    clock.restart()
    clock.restart()
    assert clock.tick(5.0) is Tick.STEP_AFTER_GAP


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_rejects_rates_that_are_not_positive(rate: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        StepClock(rate)


@given(rates, rates, st.floats(-1e5, 1e5))
def test_even_sources_give_the_rate(rate: float, fps: float, start: float) -> None:
    """Over n frames there are as many steps as due times passed, or as frames if those are fewer."""
    times = [start + k / fps for k in range(200)]
    chosen = [times[index] for index in steps(StepClock(rate, gap_s=100), times)]
    due = (times[-1] - start) * rate
    assert chosen[0] == start
    assert abs(len(chosen) - min(200, due + 1)) <= 2


@given(rates, st.lists(st.floats(0, 1.9), min_size=1, max_size=60))
def test_is_causal_and_never_early(rate: float, gaps: list[float]) -> None:
    times = [sum(gaps[: k + 1]) for k in range(len(gaps))]
    chosen = steps(StepClock(rate), times)
    cut = len(times) // 2
    assert steps(StepClock(rate), times[:cut]) == [index for index in chosen if index < cut]
    for ordinal, index in enumerate(chosen):
        assert times[index] - times[0] >= ordinal / rate - 2e-3


@given(rates, st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=60))
def test_any_times_start_with_a_step_and_restart_after_every_gap(rate: float, times: list[float]) -> None:
    clock = StepClock(rate)
    ticks = [clock.tick(time_s) for time_s in times]
    assert ticks[0] is Tick.STEP
    for index in range(1, len(times)):
        if times[index] - max(times[:index]) > 2:
            assert ticks[index] is Tick.STEP_AFTER_GAP


def test_the_first_step_comes_after_the_delay() -> None:
    clock = StepClock(2, delay_s=1.28)
    assert [k / 25 for k in steps(clock, [k / 25 for k in range(75)])] == [1.28, 1.8, 2.28, 2.8]
    assert clock.first_due_s == 1.28


def test_every_stretch_has_the_delay_and_its_first_step_the_mark() -> None:
    clock = StepClock(10, gap_s=2, delay_s=0.2)
    times = [0.0, 0.1, 5.0, 5.1, 5.2, 5.3, 1.0, 1.1, 1.2]
    ticks = [clock.tick(time_s) for time_s in times]
    assert [times[index] for index, tick in enumerate(ticks) if tick.is_step] == [5.2, 5.3, 1.2]
    assert [tick for tick in ticks if tick.is_step] == [Tick.STEP_AFTER_GAP, Tick.STEP, Tick.STEP_AFTER_GAP]
    clock.restart()
    assert [clock.tick(1.2 + k / 10) for k in range(3)] == [Tick.NO, Tick.NO, Tick.STEP_AFTER_GAP]
    for wrong in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="delay_s"):
            StepClock(1, delay_s=wrong)


@given(rates, st.floats(0, 5), st.floats(-1e4, 1e4), st.lists(st.floats(0, 1.9), min_size=1, max_size=60))
def test_a_delayed_clock_starts_after_its_delay_and_is_never_early(
    rate: float, delay_s: float, start: float, gaps: list[float]
) -> None:
    times = [start + sum(gaps[: k + 1]) for k in range(len(gaps))]
    clock = StepClock(rate, delay_s=delay_s)
    chosen, began = [], []
    for index, time_s in enumerate(times):
        if clock.due(time_s):
            chosen.append(index)
        began.append(clock.began)
    assert began == [True] + [False] * (len(times) - 1)
    assert steps(StepClock(rate, delay_s=delay_s), times[: len(times) // 2]) == [
        index for index in chosen if index < len(times) // 2
    ]
    for ordinal, index in enumerate(chosen):
        assert times[index] - times[0] >= delay_s + ordinal / rate - 2e-3
    on_time = [index for index, time_s in enumerate(times) if time_s - times[0] >= delay_s]
    assert not on_time or (chosen and chosen[0] <= on_time[0])
