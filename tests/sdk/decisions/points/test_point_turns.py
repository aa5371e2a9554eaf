"""Two points that take turns, so that clips cost a share of the dense cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtimes.bundle import Bundle
from runtimes.errors import AdaptiveVideoError
from sdk.budget.budget import Budget
from sdk.recognizer import StreamRecognizer
from sdk.recording.decision_log import DecisionLog
from sdk.recording.replay import replay
from tests.sdk.decisions.points.test_streams_along_points import along, clip
from tests.sdk.films import BRIGHT, film

__all__ = ["along", "clip"]


def midway(recognizer: StreamRecognizer) -> float:
    """The share of the dense cost midway between one small look and two big ones."""
    prices = recognizer._costs._point_prices()
    costs = dict(zip([one.name for one in recognizer.points], prices.relative_costs, strict=True))
    return float(costs["one small"] + costs["two big"]) / 2


def test_points_take_turns_from_clip_to_clip(along: Bundle, clip: Path) -> None:
    """Between one small look and two big ones, at the share of the dense cost that lies midway."""
    with StreamRecognizer(along, "cpu") as recognizer:
        recognizer.cost_share = midway(recognizer)
        ran = [{step.point for step in recognizer.recognize(clip).recognitions} for _ in range(4)]
        recognizer.point = "two big"
        assert recognizer.cost_share is None
    assert ran == [{"two big"}, {"one small"}] * 2, "each clip is run by one point"


def test_points_take_turns_in_a_stream(along: Bundle, tmp_path: Path) -> None:
    """With every 16 steps, as a clip has; the log of it replays."""
    with (
        DecisionLog(tmp_path / "log.jsonl", {}) as log,
        StreamRecognizer(along, "cpu", log=log) as recognizer,
    ):
        recognizer.cost_share = midway(recognizer)
        results = list(recognizer.stream(film([BRIGHT] * 64)))
    points = [result.point for result in results]
    assert [set(points[at : at + 16]) for at in range(0, 64, 16)] == [{"two big"}, {"one small"}] * 2
    steps = list(replay(tmp_path / "log.jsonl"))
    assert len(steps) == 64 and all(step.same for step in steps)


def test_points_take_turns_under_a_budget_of_latency(along: Bundle, tmp_path: Path) -> None:
    """It limits no power, so the app's own choice holds; what that is may change while it does."""
    with (
        DecisionLog(tmp_path / "log.jsonl", {}) as log,
        StreamRecognizer(along, "cpu", log=log) as recognizer,
    ):
        recognizer.cost_share = midway(recognizer)
        recognizer.budget = Budget(latency_ms=1000.0)
        points = [result.point for result in recognizer.stream(film([BRIGHT] * 32), own_pace=False)]
    assert {points[0], points[16]} == {"two big", "one small"}
    assert all(step.same for step in replay(tmp_path / "log.jsonl"))


def test_the_same_share_set_again_goes_on(along: Bundle, clip: Path) -> None:
    with StreamRecognizer(along, "cpu") as recognizer:
        share, ran = midway(recognizer), []
        for _ in range(4):
            recognizer.cost_share = np.float32(share)
            ran.append(recognizer.recognize(clip).recognitions[0].point)
    assert sorted(map(str, ran)) == ["one small"] * 2 + ["two big"] * 2


@pytest.mark.parametrize("share", [0, -0.1, 1.5, float("nan"), True, "half"])
def test_shares_that_are_none(along: Bundle, share: Any) -> None:
    with pytest.raises(AdaptiveVideoError, match=r"cost_share .* is not a share"):
        StreamRecognizer(along, "cpu", cost_share=share)


def test_a_share_needs_points_and_no_budget(along: Bundle, bundle: Bundle) -> None:
    with pytest.raises(AdaptiveVideoError, match="no operating points"):
        StreamRecognizer(bundle, "cpu", cost_share=0.5)
    with pytest.raises(AdaptiveVideoError, match="exclude each other"):
        StreamRecognizer(along, "cpu", cost_share=0.5, price=0.1)
    with StreamRecognizer(along, "cpu", budget=Budget(latency_ms=100.0)) as recognizer:
        with pytest.raises(AdaptiveVideoError, match="the budget sets it"):
            recognizer.cost_share = 0.5
        assert recognizer.cost_share is None
