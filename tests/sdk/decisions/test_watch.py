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
TWO = point("big", "big")
"""Two looks, four steps apart."""
SURE_OF_ANOTHER = SURE[::-1].copy()


def loop_of(chosen: OperatingPoint, longest_s: float = 100.0, rate_hz: float = 1.0) -> DecisionLoop:
    watch = StreamWatch(Watch(threshold=6.0, longest_s=longest_s), rate_hz, 8)
    return DecisionLoop(ScheduleChoice(SPACE, chosen, 8, "policy"), watch)


def decided(
    loop: DecisionLoop, signals: list[Signals], answer: np.ndarray | None = SURE, plan: Plan | None = None
) -> list[Decision]:
    """What is decided at each step; the answer is there from the first look on."""
    return [loop.step(lambda plan: Observation(), plan, answer, one) for one in signals]


def names(decisions: list[Decision]) -> list[str]:
    return [decision.name for decision in decisions]


def test_it_sleeps_after_its_looks_until_something_changes() -> None:
    found = decided(loop_of(TWO), [QUIET] * 20 + [CHANGED] + [QUIET] * 6)
    looks = ["big", "held", "held", "held", "big"]
    assert names(found) == looks + ["asleep"] * 15 + looks + ["asleep"] * 2
    assert [place for place, decision in enumerate(found) if decision.anew] == [20]


def test_a_change_between_looks_is_seen_by_the_next() -> None:
    """Its answer is not begun anew in the middle."""
    found = decided(loop_of(TWO), [QUIET, CHANGED, CHANGED, QUIET, QUIET, QUIET])
    assert names(found) == ["big", "held", "held", "held", "big", "asleep"]


def test_a_rule_that_stops_lets_it_sleep_at_once() -> None:
    stopping = point("big", "big", "big", "big", stop=StopRule(agreeing=(0.5,) * 3, differing=(0.5,) * 3))
    assert names(decided(loop_of(stopping), [QUIET] * 6, SURE)) == ["big", "held"] + ["asleep"] * 4
    torn = names(decided(loop_of(stopping), [QUIET] * 9, TORN))
    assert [place for place, name in enumerate(torn) if name == "big"] == [0, 2, 4, 6]


@given(longest=st.integers(2, 30), steps=st.integers(1, 200))
def test_no_look_is_ever_older_than_the_guard(longest: int, steps: int) -> None:
    found = names(decided(loop_of(point("big"), float(longest)), [QUIET] * steps))
    assert [place for place, name in enumerate(found) if name == "big"] == list(range(0, steps, longest))


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_the_first_change_at_rest_wakes_within_the_step(changes: list[bool]) -> None:
    """As long as each look brings another label, the threshold stays where it is."""
    loop, asleep = loop_of(point("big")), False
    for place, changed in enumerate(changes):
        answer = (SURE, SURE_OF_ANOTHER)[place % 2]
        (one,) = decided(loop, [CHANGED if changed else QUIET], answer)
        if asleep and changed:
            assert one.name == "big" and one.anew
        asleep = True


def test_useless_looks_raise_the_threshold_within_bounds_and_useful_ones_bring_it_back() -> None:
    loop = loop_of(point("big"), longest_s=1e6)
    woken = [d.name == "big" for d in decided(loop, [CHANGED, QUIET] * 50)]
    assert 2 <= sum(woken) < 40, "a change that means nothing is let be"
    far = Signals(change=6.0 * 8 * 1.01, motion=1.0)
    assert decided(loop, [far])[0].name == "big", "but never one of more than eight times the threshold"
    for answer in (SURE_OF_ANOTHER, SURE) * 10:
        decided(loop, [far], answer)
    assert [one.name for one in decided(loop, [CHANGED], SURE)] == ["big"]


MOVING = Signals(change=20.0, motion=12.0)


@pytest.mark.parametrize("looks", [1, 2, 4, 8])
def test_while_something_moves_it_is_looked_at_as_its_schedule_does(looks: int) -> None:
    chosen = point(*["big"] * looks)
    awake = DecisionLoop(ScheduleChoice(SPACE, chosen, 8, "policy"))
    scheduled = [name == "big" for name in names(decided(awake, [MOVING] * 60))]
    watched = [name == "big" for name in names(decided(loop_of(chosen, longest_s=1e6), [MOVING] * 60))]
    assert watched == scheduled, "however long it goes on, and though the label stays"


def test_what_begins_to_move_right_after_a_look_is_seen_at_once() -> None:
    found = names(decided(loop_of(point("big")), [QUIET, MOVING, MOVING, MOVING]))
    assert found == ["big", "big", "asleep", "asleep"]


def test_the_end_of_what_moved_is_looked_at() -> None:
    """Quiet again, it is not what was looked at last."""
    gone = Signals(change=20.0, motion=1.0)
    found = names(decided(loop_of(point("big")), [QUIET, QUIET, MOVING, MOVING, gone, QUIET]))
    assert found == ["big", "asleep", "big", "asleep", "big", "asleep"]


def test_the_guard_goes_by_time_where_it_is_known() -> None:
    """Of a camera that is slower than the steps it was to give."""
    slow = [Signals(change=1.0, motion=1.0, time_s=3.0 * step) for step in range(40)]
    found = names(decided(loop_of(point("big"), longest_s=30.0), slow))
    assert [place for place, name in enumerate(found) if name == "big"] == [0, 11, 21, 31]


def test_a_cut_while_something_moves_is_seen_at_once() -> None:
    loop = loop_of(point("big"))
    moving = [Signals(change=20.0, motion=7.0)] * 6
    before = names(decided(loop, [QUIET, QUIET, *moving]))
    cut = Signals(change=90.0, motion=80.0)
    assert before[2:] == ["big", *["asleep"] * 5]
    assert names(decided(loop, [cut])) == ["big"]


def test_without_any_signal_it_is_looked_at_as_often_as_its_schedule() -> None:
    found = names(decided(loop_of(point("big"), longest_s=100.0), [NO_SIGNALS] * 24))
    assert [place for place, name in enumerate(found) if name == "big"] == [0, 8, 16]


def test_sound_wakes_as_pictures_do() -> None:
    found = names(decided(loop_of(point("big")), [QUIET, QUIET, Signals(change=1.0, motion=1.0, sound=7.0)]))
    assert found == ["big", "asleep", "big"]


def test_a_throttled_step_does_not_wake_and_what_changed_meanwhile_does() -> None:
    loop = loop_of(point("big"))
    decided(loop, [QUIET] * 2)
    (throttled,) = decided(loop, [CHANGED], plan=Plan(throttled=True))
    assert throttled.throttled and throttled.name == "throttled"
    assert names(decided(loop, [CHANGED])) == ["big"]


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
    assert names(decided(loop, [QUIET] * 2)) == ["big", "held"]


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True, "6"])
def test_watches_that_are_none(value: float) -> None:
    for name in ("threshold", "longest_s"):
        with pytest.raises(ArgumentError, match=f"watch {name}"):
            Watch(**{name: value})
