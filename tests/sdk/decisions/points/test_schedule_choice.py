"""Looks at fixed steps: which steps, when a rule stops them, and what is held between."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from runtimes.spec import (
    ActionSpace,
    Group,
    Interval,
    LookFusion,
    OperatingFront,
    OperatingPoint,
    Option,
    StopRule,
)
from sdk.decisions.decision import Observation
from sdk.decisions.decision_loop import DecisionLoop
from sdk.decisions.points.front_choice import FrontChoice
from sdk.decisions.points.look_positions import evenly_spaced, from_first_step
from sdk.decisions.points.schedule_choice import ScheduleChoice
from sdk.errors import OptionError

SPACE = ActionSpace(
    groups=(
        Group(
            name="size",
            options=(
                Option(name="big", graph="net", view="rgb224", precision="int8"),
                Option(name="small", graph="net", view="rgb112", precision="int8"),
                Option(name="head", graph="policy", view="rgb84", precision="fp32"),
                Option(name="skip2", skip=2),
            ),
        ),
    )
)
SURE, TORN = np.array([0.9, 0.05, 0.05]), np.array([0.4, 0.35, 0.25])


def point(*looks: str, stop: StopRule | None = None) -> OperatingPoint:
    known = Interval(mean=0.5, low=0.4, high=0.6)
    kind = "schedule" if stop is None else "stopping"
    return OperatingPoint(
        name="point",
        kind=kind,
        looks=looks,
        stop=stop,
        runs={},
        accuracy=known,
        true_probability=known,
        ms=1.0,
        admitted_as=None if stop is None else "better",
    )


def choices(
    chosen: OperatingPoint, steps: int, *, clip: int | None = None, answer: np.ndarray | None = None
) -> list[str]:
    """What is decided at each step of a stream whose answer is always the same once there is one."""
    loop = DecisionLoop(ScheduleChoice(SPACE, chosen, 8, "policy"))
    loop.expect_steps(clip)
    names: list[str] = []
    for _ in range(steps):
        known = answer if any(name != "held" for name in names) else None
        names.append(loop.step(lambda plan: Observation(), answer=known).name)
    return names


@given(looks=st.integers(1, 10), steps=st.integers(1, 8))
def test_a_clip_is_looked_at_evenly(looks: int, steps: int) -> None:
    found = choices(point(*["big"] * looks), steps, clip=steps)
    assert [step for step, name in enumerate(found) if name == "big"] == evenly_spaced(looks, steps)
    assert set(found) <= {"big", "held"}


@given(looks=st.integers(1, 10), steps=st.integers(1, 40))
def test_a_stream_is_looked_at_in_every_period(looks: int, steps: int) -> None:
    found = choices(point(*["big"] * looks), steps)
    within = from_first_step(looks, 8)
    assert [name == "big" for name in found] == [step % 8 in within for step in range(steps)]
    assert found[0] == "big", "a stream has an answer from its first step on"


def test_a_clip_longer_than_those_judged_on_is_a_stream() -> None:
    assert choices(point("big"), 12, clip=12) == choices(point("big"), 12)


def test_looks_come_in_their_order() -> None:
    assert choices(point("small", "small", "big", "big"), 8, clip=8) == [
        *("held", "small", "held", "small", "held", "big", "held", "big")
    ]


def test_a_rule_stops_when_sure_and_looks_again_in_the_next_period() -> None:
    rule = StopRule(agreeing=(0.5, 0.5, 0.5), differing=(0.5, 0.5, 0.5))
    stopping = point("big", "big", "big", "big", stop=rule)
    sure, torn = (choices(stopping, 16, answer=answer) for answer in (SURE, TORN))
    assert [step for step, name in enumerate(sure) if name == "big"] == [0, 8]
    assert [step for step, name in enumerate(torn) if name == "big"] == [0, 2, 4, 6, 8, 10, 12, 14]
    clip = choices(stopping, 8, clip=8, answer=SURE)
    assert clip == ["held", "big", "held", "held", "held", "held", "held", "held"]


def test_agreement_is_with_the_answer_of_the_look_before() -> None:
    """After the first look nothing agrees; after the second the same best label does."""
    rule = StopRule(agreeing=(0.9, 0.5, 0.5), differing=(0.9, 0.9, 0.9))
    stopping = point("big", "big", "big", "big", stop=rule)
    assert [step for step, name in enumerate(choices(stopping, 8, answer=SURE)) if name == "big"] == [0, 2]


def test_the_policy_runs_only_for_its_own_head_and_not_while_waiting() -> None:
    assert not ScheduleChoice(SPACE, point("big", "small"), 8, "policy").runs_policy
    heads = ScheduleChoice(SPACE, point("head", "big"), 8, "policy")
    assert heads.runs_policy
    observed: list[int] = []
    loop = DecisionLoop(heads)
    for step in range(16):
        loop.step(lambda plan, step=step: observed.append(step) or Observation())  # type: ignore[misc]
    assert observed == [0, 4, 8, 12]


def test_a_reset_begins_anew() -> None:
    loop = DecisionLoop(ScheduleChoice(SPACE, point("big"), 8))
    names = [loop.step(lambda plan: Observation()).name for _ in range(3)]
    loop.reset()
    assert [*names, loop.step(lambda plan: Observation()).name] == ["big", "held", "held", "big"]


def test_a_missing_graph_is_named() -> None:
    chooser = ScheduleChoice(SPACE, point("big"), 8)
    chooser.set_absent_graphs({"policy"})
    with pytest.raises(OptionError, match="point point: its graph net is not there"):
        chooser.set_absent_graphs({"net"})


def test_what_is_absent_is_left_out() -> None:
    loop = DecisionLoop(ScheduleChoice(SPACE, point("big"), 8))
    assert loop.step(lambda plan: Observation(None, {"rgb224"})).options == ()


@pytest.mark.parametrize(("looks", "since", "waits"), [(8, 1, 0), (2, 1, 3), (2, 4, 0), (2, 6, 2), (1, 3, 5)])
def test_a_stream_goes_on_where_another_point_looked_last(looks: int, since: int, waits: int) -> None:
    """As if that look had been the first of a period of eight steps."""
    chooser = ScheduleChoice(SPACE, point(*["big"] * looks), 8, "policy")
    chooser.resume(since)
    assert chooser.steps_to_wait(chooser.standing_plan, None) == waits


def test_a_look_long_ago_begins_a_new_period() -> None:
    chooser = ScheduleChoice(SPACE, point("big", "big"), 8, "policy")
    chooser.resume(9)
    assert chooser.steps_to_wait(chooser.standing_plan, None) == 0


def test_a_stream_remembers_as_its_point_says_and_a_clip_is_remembered_as_a_whole() -> None:
    chosen = ScheduleChoice(SPACE, point("big", "big").model_copy(update={"memory_steps": 4}), 8)
    assert chosen.memory_steps == 4
    for steps in (8, 100, None):
        chosen.expect_steps(steps)
        assert chosen.memory_steps is None
    chosen.reset()
    assert chosen.memory_steps == 4
    assert ScheduleChoice(SPACE, point("big"), 8).memory_steps is None


def test_a_stop_rule_has_no_memory_of_its_own() -> None:
    rule = StopRule(agreeing=(0.5,), differing=(0.5,))
    fields = point("big", "big", stop=rule).model_dump()
    with pytest.raises(ValidationError, match="only a schedule remembers for so many steps"):
        OperatingPoint.model_validate({**fields, "memory_steps": 4})


@pytest.mark.parametrize("steps", [100, None])
def test_a_long_clip_is_remembered_as_a_whole_whichever_point_runs(steps: int | None) -> None:
    """Under a budget points change in the middle of it."""
    one = point("big", "big").model_copy(update={"memory_steps": 4})
    other = point("small", "small", "small").model_copy(
        update={
            "name": "other",
            "memory_steps": 2,
            "true_probability": Interval(mean=0.6, low=0.5, high=0.7),
        }
    )
    looks = {"big": 1.0, "small": 1.0}
    front = OperatingFront(
        variant="int8",
        fusion=LookFusion(scales=looks, weights=looks, exponent=1.0),
        points=(one, other),
        default="point",
        dense=other,
        judged_on="nothing: a test",
    )
    chooser = FrontChoice(SPACE, np.zeros(5), front, 8, None)
    loop = DecisionLoop(chooser)
    plans = [chooser.plan_of(front.points[step // 5 % 2], 0.0) for step in range(40)]
    loop.expect_steps(steps)
    for plan in plans:
        loop.step(lambda plan: Observation(), plan)
        assert chooser.memory_steps is None
    loop.reset()
    remembered = []
    for plan in plans:
        loop.step(lambda plan: Observation(), plan)
        remembered.append(chooser.memory_steps)
    assert set(remembered) == {2, 4}
