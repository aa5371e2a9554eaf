"""The decision loop: steps that are held, throttled, or decided."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from runtimes.spec import ActionSpace
from sdk.decisions.choosers import FixedChoice, LearnedChoice
from sdk.decisions.decision import Observation, Plan
from sdk.decisions.decision_loop import DecisionLoop
from tests.sdk.decisions.deciding import COSTS, LARGE, SKIP2, SKIP4, SMALL, SPACE, arnet, step


def decision_loop() -> DecisionLoop:
    return DecisionLoop(LearnedChoice(SPACE, COSTS))


def test_the_first_decision_gives_an_output() -> None:
    loop = decision_loop()
    assert step(loop, [0, 1, 2, 3]).options == (SMALL,)
    assert step(loop, [0, 1, 2, 3]).options == (SKIP4,)


def test_skip_holds_the_steps_after_it() -> None:
    loop = decision_loop()
    step(loop, [1, 0, 0, 0])
    assert step(loop, [0, 0, 0, 1]).holds == 3
    assert [step(loop, [1, 0, 0, 0]).name for _ in range(5)] == ["held", "held", "held", "large", "large"]


def test_nothing_is_observed_at_a_step_that_is_held_or_throttled() -> None:
    def observe(plan: Plan) -> Observation:
        raise AssertionError("the policy was run")

    loop = decision_loop()
    throttled = replace(loop.chooser.standing_plan, throttled=True)
    assert loop.step(observe, throttled).name == "throttled"
    step(loop, [1, 0, 0, 0])
    step(loop, [0, 0, 0, 1])
    assert loop.step(observe).name == "held"
    assert loop.step(observe, throttled).name == "held"  # the skip holds it; throttled or not


def test_a_throttled_step_is_not_taken_off_those_that_a_skip_holds() -> None:
    loop = decision_loop()
    throttled = replace(loop.chooser.standing_plan, throttled=True)
    step(loop, [1, 0, 0, 0])
    loop.step(lambda plan: pytest.fail("decided"), throttled)
    step(loop, [0, 0, 0, 1])
    assert [step(loop, [1, 0, 0, 0]).name for _ in range(4)] == ["held", "held", "held", "large"]


def test_the_plan_is_the_choosers_own_unless_another_is_given() -> None:
    loop, seen = DecisionLoop(LearnedChoice(SPACE, COSTS, price=0.5)), []

    def observe(plan: Plan) -> Observation:
        seen.append(plan.price)
        return Observation(np.array([3.0, 2, -9, -9]))

    assert loop.step(observe).options == (LARGE,)
    assert loop.step(observe, replace(loop.chooser.standing_plan, price=2.0)).options == (SMALL,)
    assert seen == [0.5, 2.0]


def test_reset_forgets_held_steps_and_the_first_output() -> None:
    loop = decision_loop()
    step(loop, [1, 0, 0, 0])
    step(loop, [0, 0, 0, 1])
    loop.reset()
    assert step(loop, [0, 0, 0, 1]).options == (SMALL,)


def test_a_skip_beside_a_branch_holds_nothing() -> None:
    space = ActionSpace(groups=(SPACE.groups[0], SPACE.groups[0]))
    loop = DecisionLoop(LearnedChoice(space, np.tile(COSTS, 2)))
    step(loop, [1.0] * 8)
    assert step(loop, [0, 0, 0, 1, 1, 0, 0, 0]).options == (SKIP4, LARGE)
    assert step(loop, [0, 0, 0, 1, 0, 0, 1, 0]).options == (SKIP4, SKIP2)
    assert [step(loop, [1.0] * 8).held for _ in range(2)] == [True, False]


def test_fixed_choice_runs_at_every_nth_step() -> None:
    loop = DecisionLoop(FixedChoice(arnet(), "rgb112", every=3))
    names = [step(loop).name for _ in range(7)]
    assert names == ["rgb112", "held", "held", "rgb112", "held", "held", "rgb112"]


def test_a_switch_in_the_middle_of_a_step_holds_from_the_next() -> None:
    """Else a step that has not run the policy could choose the policy's own head."""
    chooser = FixedChoice(arnet(), "rgb112")
    loop, ran_policy = DecisionLoop(chooser), []

    def observe(plan: Plan) -> Observation:
        ran_policy.append(chooser.runs_policy)
        chooser.switch("head" if chooser.option == "rgb112" else "rgb112")
        return Observation()

    assert [loop.step(observe).name for _ in range(3)] == ["rgb112", "head", "rgb112"]
    assert ran_policy == [False, True, False]
