"""Sleep: nothing runs while nothing changes; what changes wakes, what changes for nothing wakes less."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.errors import ArgumentError
from runtimes.spec import OperatingPoint, StopRule
from sdk.decisions.decision import Decision, Observation, Plan
from sdk.decisions.decision_loop import DecisionLoop
from sdk.decisions.points.schedule_choice import ScheduleChoice
from sdk.decisions.watch import StreamWatch, Watch
from sdk.media.signals.signals import NO_SIGNALS, Signals
from tests.sdk.decisions.points.test_schedule_choice import SPACE, SURE, TORN, point

QUIET, CHANGED = Signals(change=1.0, motion=1.0), Signals(change=9.0, motion=1.0)
MOVING = Signals(change=20.0, motion=12.0)
TWO, EVERY_STEP = point("big", "big"), point(*["big"] * 8)
"""Two looks, four steps apart, and one at every step."""
SURE_OF_ANOTHER = SURE[::-1].copy()


def loop_of(
    chosen: OperatingPoint, longest_s: float = 100.0, rate_hz: float = 1.0, linger_s: float = 2.0
) -> DecisionLoop:
    watch = StreamWatch(Watch(threshold=6.0, linger_s=linger_s, longest_s=longest_s), rate_hz)
    return DecisionLoop(ScheduleChoice(SPACE, chosen, 8, "policy"), watch)


def decided(
    loop: DecisionLoop, signals: list[Signals], answer: np.ndarray | None = SURE, plan: Plan | None = None
) -> list[Decision]:
    """What is decided at each step; the answer is there from the first look on."""
    return [loop.step(lambda plan: Observation(), plan, answer, one) for one in signals]


def names(decisions: list[Decision]) -> list[str]:
    return [decision.name for decision in decisions]


def looks_of(decisions: list[Decision]) -> list[int]:
    return [place for place, name in enumerate(names(decisions)) if name == "big"]


def test_it_sleeps_once_it_is_quiet_until_something_changes() -> None:
    found = decided(loop_of(EVERY_STEP), [QUIET] * 10 + [CHANGED] + [QUIET] * 6)
    assert names(found) == ["big"] + ["asleep"] * 9 + ["big", "big"] + ["asleep"] * 5
    assert [place for place, decision in enumerate(found) if decision.anew] == [10]


@pytest.mark.parametrize("linger_s", [1.0, 3.0, 5.0])
def test_it_stays_awake_for_a_while_after_the_last_that_moved(linger_s: float) -> None:
    found = decided(loop_of(EVERY_STEP, linger_s=linger_s), [QUIET] + [MOVING] * 4 + [QUIET] * 12)
    assert looks_of(found) == list(range(5 + int(linger_s) - 1))


def test_it_sleeps_in_the_middle_of_a_period_and_wakes_to_the_first_look() -> None:
    found = decided(loop_of(TWO), [QUIET] * 6 + [CHANGED] + [MOVING] * 9)
    assert names(found)[:6] == ["big"] + ["asleep"] * 5
    assert looks_of(found) == [0, 6, 10, 14]


def test_a_rule_that_stops_looks_no_more_in_its_period() -> None:
    stopping = point("big", "big", "big", "big", stop=StopRule(agreeing=(0.5,) * 3, differing=(0.5,) * 3))
    assert looks_of(decided(loop_of(stopping), [MOVING] * 16, SURE)) == [0, 8]
    assert looks_of(decided(loop_of(stopping), [MOVING] * 9, TORN)) == [0, 2, 4, 6, 8]


@given(longest=st.integers(4, 30), steps=st.integers(1, 200))
def test_no_look_is_ever_older_than_the_guard(longest: int, steps: int) -> None:
    found = decided(loop_of(point("big"), float(longest)), [QUIET] * steps)
    assert looks_of(found) == list(range(0, steps, longest))


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_the_first_change_at_rest_wakes_within_the_step(changes: list[bool]) -> None:
    """As long as what it sees each time brings another label, the threshold stays where it is."""
    loop, wakings = loop_of(point("big"), longest_s=1e6), 0
    for changed in changes:
        (one,) = decided(loop, [CHANGED if changed else QUIET], (SURE, SURE_OF_ANOTHER)[wakings % 2])
        if one.anew:
            wakings += 1
        assert not (changed and one.asleep)


def test_useless_wakings_raise_the_threshold_within_bounds_and_useful_ones_bring_it_back() -> None:
    loop = loop_of(point("big"), longest_s=1e6)
    woken = [d.anew for d in decided(loop, [CHANGED, QUIET, QUIET] * 50)]
    assert 2 <= sum(woken) < 30, "a change that means nothing is let be"
    far = Signals(change=6.0 * 8 * 1.01, motion=1.0)
    assert decided(loop, [QUIET, QUIET, far])[-1].anew, "but never one of more than eight times the threshold"
    for answer in (SURE_OF_ANOTHER, SURE) * 10:
        decided(loop, [QUIET, QUIET, far], answer)
    assert decided(loop, [QUIET, QUIET, CHANGED], SURE)[-1].anew


@pytest.mark.parametrize("looks", [1, 2, 4, 8])
def test_while_something_moves_it_is_looked_at_as_its_schedule_does(looks: int) -> None:
    chosen = point(*["big"] * looks)
    awake = DecisionLoop(ScheduleChoice(SPACE, chosen, 8, "policy"))
    scheduled = looks_of(decided(awake, [MOVING] * 60))
    watched = decided(loop_of(chosen, longest_s=1e6), [MOVING] * 60)
    assert looks_of(watched) == scheduled, "however long it goes on, and though the label stays"
    assert not any(one.anew for one in watched)


def test_the_end_of_what_moved_is_looked_at() -> None:
    """Quiet again, it is not what was looked at last."""
    gone = Signals(change=20.0, motion=1.0)
    found = names(decided(loop_of(point("big")), [QUIET, QUIET, MOVING, MOVING, gone, gone]))
    assert found == ["big", "asleep", "big", "held", "held", "big"]


def test_the_guard_goes_by_time_where_it_is_known() -> None:
    """Of a camera that is slower than the steps it was to give."""
    slow = [Signals(change=1.0, motion=1.0, time_s=3.0 * step) for step in range(40)]
    assert looks_of(decided(loop_of(point("big"), longest_s=30.0), slow)) == [0, 10, 20, 30]


def test_a_cut_while_something_moves_is_seen_at_once_and_begins_anew() -> None:
    loop = loop_of(point("big"))
    moving = [Signals(change=20.0, motion=7.0)] * 6
    assert looks_of(decided(loop, [QUIET, QUIET, *moving])) == [0, 2]
    (cut,) = decided(loop, [Signals(change=90.0, motion=80.0)])
    assert cut.name == "big" and cut.anew


def test_without_any_signal_it_is_looked_at_as_often_as_its_schedule() -> None:
    assert looks_of(decided(loop_of(point("big"), longest_s=100.0), [NO_SIGNALS] * 24)) == [0, 8, 16]


def test_sound_wakes_as_pictures_do() -> None:
    found = names(decided(loop_of(point("big")), [QUIET, QUIET, Signals(change=1.0, motion=1.0, sound=7.0)]))
    assert found == ["big", "asleep", "big"]


def test_a_throttled_step_does_not_wake_and_what_changed_meanwhile_does() -> None:
    loop = loop_of(point("big"))
    decided(loop, [QUIET] * 2)
    (throttled,) = decided(loop, [CHANGED], plan=Plan(throttled=True))
    assert throttled.throttled and throttled.name == "throttled"
    assert names(decided(loop, [CHANGED])) == ["big"]


def test_what_a_budget_holds_from_its_first_look_does_not_fall_asleep_before_it() -> None:
    loop = loop_of(point("big"))
    throttled = decided(loop, [QUIET] * 5, plan=Plan(throttled=True))
    assert names(throttled) == ["throttled"] * 5
    assert names(decided(loop, [QUIET] * 2)) == ["big", "asleep"]


def test_another_point_wakes_nothing_and_looks_first_when_woken() -> None:
    loop = loop_of(TWO)
    decided(loop, [QUIET] * 6)
    other = Plan(point="another")
    assert names(decided(loop, [QUIET, QUIET, CHANGED], plan=other)) == ["asleep", "asleep", "big"]


def test_clips_do_not_sleep_and_streams_begin_awake() -> None:
    loop = loop_of(TWO)
    loop.expect_steps(8)
    assert "asleep" not in names(decided(loop, [QUIET] * 8))
    loop.reset()
    assert names(decided(loop, [QUIET, MOVING])) == ["big", "held"]


def test_sound_keeps_it_awake() -> None:
    loud = Signals(change=1.0, motion=1.0, sound=7.0)
    assert looks_of(decided(loop_of(EVERY_STEP), [loud] * 8 + [QUIET] * 4)) == list(range(9))


@pytest.mark.parametrize(("linger_s", "awake"), [(2.0, 1), (2.1, 2), (3.0, 2), (3.1, 3)])
def test_parts_of_a_step_linger_for_a_whole_one(linger_s: float, awake: int) -> None:
    assert looks_of(decided(loop_of(EVERY_STEP, linger_s=linger_s), [QUIET] * 8)) == list(range(awake))


def test_what_moves_first_after_a_waking_is_a_cut_if_it_is_large() -> None:
    """As it would have been looked at at once, had the stream been asleep."""
    for motion, seen in ((23.0, False), (25.0, True)):
        loop = loop_of(point("big"), linger_s=5.0)
        decided(loop, [QUIET] * 8)
        large = Signals(change=motion, motion=motion)
        woken = decided(loop, [CHANGED, QUIET, QUIET, large], SURE_OF_ANOTHER)
        assert looks_of(woken) == ([0, 3] if seen else [0])


def test_the_motion_of_another_event_says_nothing_of_a_cut() -> None:
    """After it was quiet for long enough."""
    loop = loop_of(point("big"), linger_s=3.0)
    violent, mild = Signals(change=90.0, motion=90.0), Signals(change=9.0, motion=1.0)
    decided(loop, [QUIET] * 4 + [violent] * 3 + [QUIET] * 6)
    answers = (SURE, SURE_OF_ANOTHER)
    woken = [decided(loop, [one], answers[0])[0] for one in (mild, QUIET, Signals(change=50.0, motion=50.0))]
    assert [one.name for one in woken] == ["big", "held", "big"]


def test_a_raised_threshold_holds_for_cuts_too() -> None:
    loop = loop_of(point("big"), linger_s=2.0)
    far = Signals(change=40.0, motion=1.0)
    decided(loop, [QUIET, QUIET] + [far, QUIET, QUIET] * 4)  # raised to 1.5 ** 4, about 5
    still = Signals(change=1.0, motion=6.5)
    moving = [decided(loop, [one])[0] for one in (far, still, Signals(change=1.0, motion=27.0))]
    assert [one.name for one in moving] == ["big", "held", "held"], "four times 6.5, but below 30"


def test_the_guard_teaches_nothing() -> None:
    loop = loop_of(point("big"), longest_s=4.0)
    decided(loop, [QUIET] * 60)
    assert decided(loop, [CHANGED])[0].anew


def test_a_cut_that_a_budget_held_is_looked_at_after_it() -> None:
    loop = loop_of(EVERY_STEP)
    moving = Signals(change=20.0, motion=7.0)
    decided(loop, [QUIET, moving, moving])
    (throttled,) = decided(loop, [Signals(change=90.0, motion=80.0)], plan=Plan(throttled=True))
    assert throttled.name == "throttled" and not throttled.anew
    assert [one.anew for one in decided(loop, [moving, moving])] == [True, False]


def test_asleep_a_throttled_step_is_asleep_too() -> None:
    loop = loop_of(point("big"))
    decided(loop, [QUIET] * 4)
    (throttled,) = decided(loop, [QUIET], plan=Plan(throttled=True))
    assert throttled.asleep and throttled.throttled and throttled.name == "throttled"


def test_it_neither_sleeps_nor_learns_before_it_has_seen_something() -> None:
    """While its view is absent; then it looks as its schedule does."""
    loop = loop_of(point(*["big"] * 4))
    blind = Observation(absent_views=frozenset({"rgb224"}))
    for _ in range(5):
        assert loop.step(lambda plan: blind, answer=None, signals=QUIET).name in ("nothing", "held")
    assert names(decided(loop, [QUIET] * 4)) == ["held", "big", "asleep", "asleep"]
    for _ in range(9):
        assert loop.step(lambda plan: blind, answer=SURE, signals=CHANGED).name in ("nothing", "held")
    seen = names(decided(loop, [CHANGED, CHANGED]))
    assert "big" in seen and "asleep" not in seen


def test_it_wakes_where_there_is_no_signal_any_more() -> None:
    loop = loop_of(point("big"))
    assert names(decided(loop, [QUIET] * 3 + [NO_SIGNALS] * 2)) == ["big", "asleep", "asleep", "big", "held"]


def test_a_clip_with_a_gap_is_still_a_clip() -> None:
    loop = loop_of(TWO)
    loop.expect_steps(8)
    loop.restart()
    assert "asleep" not in names(decided(loop, [QUIET] * 20))
    loop.reset()
    loop.restart()
    assert names(decided(loop, [QUIET] * 3))[-1] == "asleep"


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True, "6"])
def test_watches_that_are_none(value: float) -> None:
    for name in ("threshold", "linger_s", "longest_s"):
        with pytest.raises(ArgumentError, match=f"watch {name}"):
            Watch(**{name: value})
