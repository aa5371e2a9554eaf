"""Accuracy and cost of static, random and learned choices, and the front of the static ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.data.cache import ClipCache
from compiler.measuring.evaluation import (
    Evaluator,
    Outcome,
    best_static_within,
    frame_counts,
    learned_outcome,
    random_outcome,
    static_front,
    static_outcomes,
)
from runtimes.bundle import Bundle
from runtimes.engines.engine import open_engine
from runtimes.spec import CostTable, GraphCost, ViewCost
from sdk.decisions.choosers import LearnedChoice, RandomChoice
from sdk.decisions.option_costs import option_costs

MS = {"rgb64": 8.0, "rgb48": 4.0, "rgb40": 2.0, "rgb32": 1.0}
RESIZE_MS = 0.5


@pytest.fixture(scope="module")
def table(bundle: Bundle) -> CostTable:
    """Every graph at its view: 8, 4, 2 and 1 ms (the policy), and half a ms to resize."""
    rows = [
        GraphCost(graph=graph.name, view=view, p50_ms=MS[view], p95_ms=MS[view])
        for graph in bundle.manifest.graphs
        for view in graph.macs
    ]
    views = tuple(ViewCost(view=view, p50_ms=RESIZE_MS, p95_ms=RESIZE_MS) for view in MS)
    return CostTable(device="desk", providers=(), threads=1, graphs=tuple(rows), views=views)


@pytest.fixture
def evaluator(bundle: Bundle, cache: ClipCache) -> Iterator[Evaluator]:
    with open_engine(bundle, "cpu") as engine:
        yield Evaluator(bundle.manifest, bundle.variant("fp32"), engine, cache, cache.split("val"))


def test_static_outcomes_on_written_logits(evaluator: Evaluator, table: CostTable) -> None:
    """The largest branch is right at the middle step alone, the next at all but the middle."""
    cache = evaluator.cache
    for clip in evaluator.clips:
        steps, target = cache.steps(clip), cache.target(clip)
        right, wrong = np.eye(3, dtype=np.float32)[target], np.eye(3, dtype=np.float32)[target - 1]
        rows = np.tile(2 * wrong, (steps, 1))
        rows[steps // 2] = right
        evaluator._branch_logits["arnet-rgb64-fp32", clip] = rows
        rows = np.tile(right, (steps, 1))
        rows[steps // 2] = 1.5 * wrong
        evaluator._branch_logits["arnet-rgb48-fp32", clip] = rows
    outcomes = {outcome.name: outcome for outcome in static_outcomes(evaluator, table)}
    counts = frame_counts(max(cache.steps(clip) for clip in evaluator.clips))
    assert len(outcomes) == 4 * len(counts)
    assert {name: outcomes[f"rgb64 x {name}"].accuracy for name in (1, 2, 4, 8)} == {1: 1, 2: 0, 4: 0, 8: 0}
    assert {name: outcomes[f"rgb48 x {name}"].accuracy for name in (1, 2, 4, 8)} == {1: 0, 2: 1, 4: 1, 8: 1}
    for view, ms in MS.items():
        for count in counts:
            run = [min(count, cache.steps(clip)) for clip in evaluator.clips]
            assert outcomes[f"{view} x {count}"].ms.tolist() == [n * (ms + RESIZE_MS) for n in run]
    assert {(o.kind, o.variant) for o in outcomes.values()} == {("static", "fp32")}


def test_counts_end_where_every_step_is_taken() -> None:
    assert frame_counts(1) == (1,)
    assert frame_counts(5) == frame_counts(8) == (1, 2, 4, 8)
    assert frame_counts(16) == frame_counts(40) == (1, 2, 4, 8, 16)


def test_head_answers_each_frame_on_its_own(evaluator: Evaluator) -> None:
    clip = evaluator.clips[0]
    head = next(option for option in evaluator.variant.action_space.options if option.name == "rgb32")
    alone, both = evaluator.head_logits(head, clip, [5]), evaluator.head_logits(head, clip, [2, 5])
    np.testing.assert_array_equal(alone[0], both[1])
    assert not np.allclose(both[0], both[1])


def test_rollouts_charge_held_steps_nothing(evaluator: Evaluator, table: CostTable) -> None:
    variant = evaluator.variant
    costs = dict(zip(MS, (8.5, 4.5, 2.5, 0.0), strict=True)) | dict.fromkeys(("skip1", "skip2", "skip4"), 0.0)
    saved = {"skip2": 1.5, "skip4": 4.5}
    assert list(option_costs(variant, table)) == [ms - saved.get(name, 0.0) for name, ms in costs.items()]
    space = variant.action_space
    choosers = {
        "learned": LearnedChoice(space, option_costs(variant, table), 0.05),
        "random": RandomChoice(space, seed=3),
    }
    outcomes = {
        "learned": learned_outcome(evaluator, table, 0.05, "learned"),
        "random": random_outcome(evaluator, table, seed=3),
    }
    held = 0
    for name, chooser in choosers.items():
        for clip, ms, correct in zip(evaluator.clips, outcomes[name].ms, outcomes[name].correct, strict=True):
            chooser.reset()
            steps = evaluator.roll_out(clip, chooser)
            assert len(steps) == evaluator.cache.steps(clip)
            held += sum(step.decision.held for step in steps)
            ran = [step.decision.name for step in steps if not step.decision.held]
            assert ms == pytest.approx(sum(1.5 + costs[choice] for choice in ran))
            assert correct == (steps[-1].scores.argmax() == evaluator.cache.target(clip))
        total = sum(evaluator.cache.steps(clip) for clip in evaluator.clips)
        assert sum(outcomes[name].choices.values()) == total
    assert held, "nothing was skipped: the test shows nothing"


def test_a_high_price_leaves_only_what_is_free(evaluator: Evaluator, table: CostTable) -> None:
    outcome = learned_outcome(evaluator, table, 1e6, "expensive")
    assert set(outcome.choices) <= {"rgb32", "skip1", "skip2", "skip4", "held"}


def outcome(name: str, right: int, ms: float) -> Outcome:
    """Of 20 clips, the first ``right`` are recognized."""
    return Outcome(name, "int8", "static", np.arange(20) < right, np.full(20, ms))


OUTCOMES = st.lists(
    st.builds(outcome, st.just("static"), st.integers(0, 20), st.integers(1, 12).map(float)), min_size=1
)


@given(OUTCOMES, st.floats(0, 15))
def test_front_is_the_upper_envelope(outcomes: list[Outcome], budget: float) -> None:
    front = static_front(outcomes)
    assert all(any(o is member for o in outcomes) for member in front)
    for cheaper, costlier in itertools.pairwise(front):
        assert cheaper.mean_ms < costlier.mean_ms and cheaper.accuracy < costlier.accuracy
    for entry in outcomes:
        assert any(f.mean_ms <= entry.mean_ms and f.accuracy >= entry.accuracy for f in front)
    best = best_static_within(front, budget)
    affordable = [entry.accuracy for entry in outcomes if entry.mean_ms <= budget]
    assert (best.accuracy if best else None) == (max(affordable) if affordable else None)
    assert best is None or best.mean_ms <= budget
