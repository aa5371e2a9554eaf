"""The front that a bundle offers: never behind any schedule, and nothing on it that fails its test."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.operating_points.admission import group_draws
from compiler.operating_points.answers import Answers, LearnedAnswers, joined
from compiler.operating_points.candidates import schedule_candidates
from compiler.operating_points.choosing import choose_front
from compiler.operating_points.evaluating import Comparison, compare, evaluate_front
from compiler.operating_points.evidence import judge_again, save_evidence
from compiler.operating_points.fit_fusion import fit_fusion, fit_temperature
from compiler.operating_points.plans import LookPlan, follow
from compiler.operating_points.summary import budget_lines, verdict_line
from runtimes.spec import CostTable, GraphCost, LookFusion
from sdk.decisions.points.hull import sharing
from sdk.decisions.points.look_positions import evenly_spaced
from tests.compiler.operating_points.written_answers import COSTS, LOOKS, PARTS, written_answers

TABLE = CostTable(
    device="bench",
    providers=("CPUExecutionProvider",),
    threads=1,
    graphs=tuple(
        GraphCost(graph=graph, view=view, p50_ms=float(ms), p95_ms=float(ms))
        for part, ms in zip(PARTS, COSTS, strict=True)
        for graph, _, view in [part.partition("@")]
    ),
    views=(),
)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 2**16), st.booleans())
def test_never_behind_a_schedule_and_monotone(seed: int, learned: bool) -> None:
    answers = written_answers(seed, learned=learned)
    judged = choose_front("int8", answers, TABLE, "written clips")
    points = judged.front.points
    costs = np.array([point.ms for point in points])
    values = np.array([point.true_probability.mean for point in points])
    assert (np.diff(costs) > 0).all() and (np.diff(values) > 0).all()
    for schedule in judged.schedules:
        cost = float(schedule.cost.mean())
        one, other, share = sharing(costs, range(len(points)), cost)
        reached = (1 - share) * values[one] + share * values[other]
        assert reached >= schedule.true_probability.mean() - 1e-9
    admitted = {one.name for one, how in zip(judged.others, judged.admissions, strict=True) if how.reason}
    assert {point.name for point in points if point.kind != "schedule"} <= admitted


def test_dense_is_the_most_expensive_look_of_branches() -> None:
    """Not one that takes its answer from the policy, however much that costs."""
    answers = written_answers(1)
    runs = answers.look_runs.copy()
    runs[LOOKS.index("middle"), 0] = 100
    headed = replace(answers, look_runs=runs)
    for one in (answers, headed):
        dense = choose_front("int8", one, TABLE, "written clips").front.dense
        assert set(dense.looks) == {"big"} and len(dense.looks) == answers.clip_steps


def test_a_policy_that_knows_the_answer_is_offered_and_one_that_guesses_is_not() -> None:
    knowing = choose_front("int8", written_answers(1, learned=True), TABLE, "written clips").front
    guessing = choose_front("int8", written_answers(1), TABLE, "written clips").front
    assert [point.price for point in knowing.points if point.kind == "learned"] == [0.5]
    assert not [point for point in guessing.points if point.kind == "learned"]


def test_a_policy_that_is_only_surer_of_itself_is_not_offered() -> None:
    """It answers as three looks do, at their cost, with probabilities near 0 and 1."""
    answers = written_answers(11, clips=300, groups=60)
    course = follow(answers, fit_fusion(answers), LookPlan(("middle",) * 3))
    scores, runs = course.scores[:, -1], course.runs[:, -1]
    surer = scores**6 / (scores**6).sum(axis=1, keepdims=True)
    assert surer[np.arange(300), answers.targets].mean() > scores[np.arange(300), answers.targets].mean()
    bold = replace(answers, learned=(LearnedAnswers(0.5, surer, runs),))
    judged = choose_front("int8", bold, TABLE, "written clips")
    (policy,) = [one for one in judged.others if one.kind == "learned"]
    assert policy.temperature is not None and policy.temperature > 3
    assert not [point for point in judged.front.points if point.kind == "learned"]


def test_what_is_stored_decides_the_same_again(tmp_path: Path) -> None:
    judged = choose_front("int8", written_answers(5, learned=True), TABLE, "written clips")
    again = judge_again(save_evidence(judged, tmp_path))
    reasons = {one.name: how.reason for one, how in zip(judged.others, judged.admissions, strict=True)}
    assert {name: how.reason for name, how in again.items()} == reasons
    for point in judged.front.points:
        assert point.kind == "schedule" or again[point.name].reason == point.admitted_as


def test_follow_is_the_fusion_of_what_was_seen() -> None:
    answers = written_answers(2, clips=6)
    fusion = LookFusion(
        scales={"small": 0.5, "middle": 1.0, "big": 2.0},
        weights={"small": 1.0, "middle": 2.0, "big": 4.0},
        exponent=0.5,
    )
    plan = LookPlan(("small", "big", "big"))
    course = follow(answers, fusion, plan)
    for clip, steps in enumerate(answers.steps.tolist()):
        places = evenly_spaced(3, steps)
        total = 0.5 * answers.logits[clip, 0, places[0]].astype(float)
        for place in places[1:]:
            total = total + 2.0 * answers.logits[clip, 2, place]
        fused = total / (1 + 4 + 4) ** 0.5
        powers = np.exp(fused - fused.max())
        assert course.scores[clip, -1] == pytest.approx(powers / powers.sum(), abs=1e-6)
    assert course.runs[:, -1].tolist() == [[0, 1, 0, 2]] * 6


def test_fusion_is_calibrated() -> None:
    """Where all looks at a clip see the same, their answers are not added up; else they nearly are."""
    same = written_answers(4, clips=400, steps=8)
    same.logits[:] = same.logits[:, :, :1]
    apart = written_answers(4, clips=400, steps=8)
    assert fit_fusion(same).exponent > fit_fusion(apart).exponent + 0.1
    fusion = fit_fusion(apart)
    scores = follow(apart, fusion, LookPlan(("big",) * 4)).scores[:, -1]
    right = scores.argmax(axis=1) == apart.targets
    assert abs(scores.max(axis=1).mean() - right.mean()) < 0.06


def test_absent_looks_take_nothing() -> None:
    answers = written_answers(2, clips=4)
    answers.ran[:, 2] = -1
    fusion = fit_fusion(written_answers(2))
    course = follow(answers, fusion, LookPlan(("big", "big")))
    assert np.allclose(course.scores, 1 / 4) and not course.runs.any()


def test_answers_are_kept_and_joined(tmp_path: Path) -> None:
    one, other = written_answers(1, clips=5, steps=4), written_answers(2, clips=7, steps=8)
    one.save(tmp_path / "answers.npz")
    loaded = Answers.load(tmp_path / "answers.npz")
    both = joined([loaded, other])
    assert len(both) == 12 and both.clip_steps == 8 and both.looks == LOOKS
    assert np.array_equal(both.logits[:5, :, :4], one.logits) and (both.ran[:5, :, 4:] == -1).all()
    assert both.targets.tolist() == [*one.targets, *other.targets]
    assert both.learned[0].scores.shape == (12, 4)


def test_evaluation_and_its_words() -> None:
    front = choose_front("int8", written_answers(1, clips=300), TABLE, "300 written clips").front
    found = evaluate_front(front, written_answers(2, clips=200), TABLE)
    assert found.comparison.word in ("level", "ahead") and found.unit == "ms"
    assert found.oracle_stop.best.tolist() == found.dense.best.tolist(), "the oracle changes no answer"
    assert found.oracle_stop.cost.mean() < found.dense.cost.mean()
    assert found.random_stop.cost.mean() == pytest.approx(found.oracle_stop.cost.mean(), rel=0.15)
    said = verdict_line("arnet", found)
    assert said.startswith(f"arnet int8 is {found.comparison.word} ") and "200 clips" in said
    lines = budget_lines(found)
    assert "guessing: 25.0%" in lines[0] and any("50% of that buys" in line for line in lines)


def test_what_a_mean_cost_buys_lies_between_its_neighbors() -> None:
    found = evaluate_front(
        choose_front("int8", written_answers(1, clips=300), TABLE, "300 written clips").front,
        written_answers(2, clips=200),
        TABLE,
    )
    cheap, dear = found.points[:2]
    low, high = float(cheap.cost.mean()), float(dear.cost.mean())
    between = found.bought(low + 0.25 * (high - low))
    assert between is not None and between.points == (cheap.name, dear.name)
    assert between.accuracy == pytest.approx(0.75 * cheap.right.mean() + 0.25 * dear.right.mean())
    alone = found.bought(low)
    assert alone is not None and alone.points == (cheap.name,) and found.bought(0.9 * low) is None


def test_schedules_alone_are_level_with_themselves() -> None:
    front = choose_front("int8", written_answers(8, clips=60, groups=6), TABLE, "few clips").front
    schedules = {point.name for point in front.points}
    found = evaluate_front(front, written_answers(9), TABLE)
    if schedules == set(front.schedules):
        assert found.comparison.difference == pytest.approx(0, abs=1e-12) and found.comparison.word == "level"


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.002, 0.01, "ahead"),
        (0.00001, 0.01, "level"),
        (-0.01, 0.01, "level"),
        (-0.01, -0.0001, "level"),
        (-0.01, -0.002, "behind"),
    ],
)
def test_what_no_one_would_see_is_level(low: float, high: float, word: str) -> None:
    assert Comparison((low + high) / 2, low, high).word == word


def test_few_clips_that_are_all_right_do_not_make_answers_certain() -> None:
    sure = np.full((40, 4), 0.04)
    sure[:, 0] = 0.88
    assert 0.6 < fit_temperature(sure, np.zeros(40, np.int64)) < 1.0
    wrong = np.arange(400) % 2  # every second one is wrong, and as sure
    assert fit_temperature(np.repeat(sure, 10, axis=0), wrong) > 2


def test_a_front_that_ends_early_is_behind_one_that_goes_on() -> None:
    """It has nothing to offer for what the other still buys with more."""
    answers = written_answers(6, clips=300, groups=60)
    schedules = schedule_candidates(answers, fit_fusion(answers), COSTS)
    by_name = {one.name: one for one in schedules}
    cheap, big = by_name["small x 1"], by_name["big x 8"]
    found = compare([cheap], [cheap, big], group_draws(answers.groups))
    assert found.word == "behind" and found.difference < -0.02
