"""How long a stream remembers: as long as it helps an event, no longer than the next one bears."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from compiler.operating_points.answers import Answers
from compiler.operating_points.choosing import choose_front
from compiler.operating_points.fit_fusion import fit_fusion
from compiler.operating_points.plans import LookPlan
from compiler.operating_points.streams.fit_memory import fit_memory
from tests.compiler.operating_points.test_choosing import TABLE
from tests.compiler.operating_points.written_answers import LOOKS, written_answers

STEPS = 16
EVERY_STEP = LookPlan((LOOKS[-1],) * STEPS)


def certain(*, lead: float, noise: float) -> Answers:
    """Every step says the true class by ``lead``, with ``noise`` of its own."""
    answers = written_answers(0, clips=200, steps=STEPS)
    draw = np.random.default_rng(1)
    own = np.eye(answers.logits.shape[-1])[answers.targets]
    logits = lead * own[:, None, None, :] + noise * draw.normal(size=answers.logits.shape)
    return replace(answers, logits=logits.astype(np.float32), steps=np.full(len(answers), STEPS))


def test_what_says_all_at_once_is_remembered_for_a_step() -> None:
    answers = certain(lead=5.0, noise=0.1)
    assert fit_memory(answers, fit_fusion(answers), EVERY_STEP, STEPS) == 1


def test_what_says_little_is_added_up_but_not_over_the_next_event() -> None:
    answers = certain(lead=1.0, noise=1.5)
    fitted = fit_memory(answers, fit_fusion(answers), EVERY_STEP, STEPS)
    assert fitted in (4, 8)


def test_of_one_look_a_clip_there_is_nothing_to_choose() -> None:
    answers = certain(lead=5.0, noise=0.1)
    assert fit_memory(answers, fit_fusion(answers), LookPlan(LOOKS[:1]), STEPS) is None


def test_where_views_are_absent_the_last_answer_stands() -> None:
    answers = certain(lead=5.0, noise=0.1)
    ran = answers.ran.copy()
    ran[:, LOOKS.index(EVERY_STEP.looks[0]), ::2] = -1
    blind = replace(answers, ran=ran)
    assert fit_memory(blind, fit_fusion(answers), EVERY_STEP, STEPS) == 1


@pytest.mark.parametrize("seed", range(3))
def test_the_front_says_what_its_schedules_remember(seed: int) -> None:
    front = choose_front("int8", written_answers(seed, steps=STEPS), TABLE, "written clips", STEPS).front
    for point in front.points:
        assert point.memory_steps is None or (point.kind == "schedule" and 1 <= point.memory_steps < STEPS)
    assert any(point.memory_steps for point in front.points if len(point.looks) > 1)
