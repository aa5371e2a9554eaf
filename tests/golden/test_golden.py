"""Every runtime, and the scheduler alone, make the decisions of the golden traces."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compiler.targets import TARGETS
from runtimes.errors import AdaptiveVideoError
from sdk.recording.golden_trace import decide_again, trace_decisions
from tests.golden.bundles import SOURCES, build_golden

PACKAGES = {"cpu": "onnxruntime", "litert": "ai_edge_litert", "android": "executorch"}
TOLERANCE = 1e-3
"""Of scores and logits: differences of a step go on in the state that the next one starts from."""


def golden(name: str) -> dict[str, Any]:
    trace: dict[str, Any] = json.loads((Path(__file__).parent / f"{name}.json").read_text())
    return trace


@pytest.mark.parametrize("name", SOURCES)
def test_the_traces_are_worth_holding_against(name: str) -> None:
    steps = golden(name)["steps"]
    assert len({step["choice"] for step in steps}) >= 5
    assert any(step["scores"] is None for step in steps) or name == "adamml", "nothing was ever held"
    assert len({json.dumps(step["views"]) for step in steps}) > 1


@pytest.mark.parametrize("name", SOURCES)
def test_choices_follow_from_the_scores_and_fused_scores_from_the_logits(name: str) -> None:
    trace = golden(name)
    again = decide_again(trace)
    assert [step.choice for step in again] == [step["choice"] for step in trace["steps"]]
    assert max(step.fused_apart for step in again) < 1e-9


# Lowering a method for ExecuTorch takes seconds.
_SLOW = [pytest.param(name, "android", marks=pytest.mark.slow) for name in SOURCES]
_FAST = [(name, target) for name in SOURCES for target in PACKAGES if target != "android"]


@pytest.mark.parametrize(("name", "target"), [*_FAST, *_SLOW])
def test_every_runtime_decides_alike(name: str, target: str, tmp_path: Path) -> None:
    if find_spec(PACKAGES[target]) is None:
        pytest.skip(f"{PACKAGES[target]} is not installed")
    got = trace_decisions(build_golden(name, tmp_path, (TARGETS[target],)), SOURCES[name])
    assert_alike(got, golden(name))


def assert_alike(got: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """A trace has the views and the choices of another, and its numbers within the tolerance."""
    assert got["costs"] == wanted["costs"] and got["action_space"] == wanted["action_space"]
    for ours, theirs in zip(got["steps"], wanted["steps"], strict=True):
        assert ours["views"] == theirs["views"]
        assert ours["choice"] == theirs["choice"]
        assert close(ours["scores"], theirs["scores"]) and close(ours["fused"], theirs["fused"])
        assert ours["logits"].keys() == theirs["logits"].keys()
        assert all(close(ours["logits"][option], theirs["logits"][option]) for option in ours["logits"])


def close(ours: list[float] | None, theirs: list[float] | None) -> bool:
    """Within the tolerance, in units of the largest where it is above 1."""
    if ours is None or theirs is None:
        return ours is theirs
    largest = max(1.0, float(np.abs(theirs).max()))
    return bool(np.abs(np.subtract(ours, theirs)).max() <= TOLERANCE * largest)


def test_a_trace_of_another_format() -> None:
    with pytest.raises(AdaptiveVideoError, match="format 2, and 1 is known here"):
        decide_again({"decision_trace": 2})
