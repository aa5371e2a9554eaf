"""Golden traces as an app makes them, of graphs that run twice in a step, and malformed ones."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtimes.bundle import Bundle
from runtimes.errors import BundleError
from runtimes.spec import ActionSpace, Group, Policy
from sdk.errors import RecordingError
from sdk.recording.golden_trace import decide_again, trace_decisions
from tests.runtimes.bundles import STATE, build_bundle, manifest_fields

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Two groups whose options share one graph, on different views."""
    folder = tmp_path_factory.mktemp("shared")
    whole = manifest_fields()["variants"][0]
    first, *rest = whole.action_space.groups[0].options
    groups = (Group(name="near", options=(first,)), Group(name="far", options=tuple(rest)))
    policy = Policy(graph="policy", views=("rgb84",), state={"h": STATE, "c": STATE}, heads={"far": "logits"})
    variant = whole.model_copy(update={"policy": policy, "action_space": ActionSpace(groups=groups)})
    fields = {"variants": (variant,), "default_variant": variant.name}
    return build_bundle(folder / "shared.bundle", folder, **fields)


def test_each_run_of_a_shared_graph_is_told_apart(shared: Bundle) -> None:
    trace = trace_decisions(shared, "test://?size=96x72&rate=10&duration=1&live=0")
    for step in trace["steps"]:
        assert step["choice"] == "rgb224+rgb112"
        assert step["logits"].keys() == {"rgb224", "rgb112"}
        assert step["views"].keys() == {"rgb224", "rgb112", "rgb84"}
        assert len(set(step["views"].values())) == 3
    assert max(step.fused_apart for step in decide_again(trace)) < 1e-9


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    trace: dict[str, Any] = json.loads((GOLDEN / "arnet.json").read_text())
    return trace


def without(key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda trace: trace.pop(key)


def step_with(number: int, **fields: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda trace: trace["steps"][number].update(fields)


def step_without(number: int, key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda trace: trace["steps"][number].pop(key)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (without("action_space"), "action_space: Field required"),
        (without("costs"), "costs: Field required"),
        (without("steps"), "steps: Field required"),
        (without("fusion"), "fusion: Field required"),
        (lambda trace: trace.update(action_space={"groups": 3}), "action_space.groups"),
        (lambda trace: trace.update(costs=[1.0]), "has 1 costs of"),
        (lambda trace: trace.update(costs="free"), "costs: "),
        (lambda trace: trace.update(steps=[]), "steps: "),
        (lambda trace: trace.update(steps=[None]), "steps.0: "),
        (step_without(0, "scores"), r"steps.0.scores: Field required"),
        (step_without(0, "logits"), r"steps.0.logits: Field required"),
        (step_with(0, scores=None), "step 0: has no scores"),
        (step_with(0, scores=[1.0]), "step 0: the scores: 1 numbers instead of"),
        (step_with(0, scores=[float("nan")] * 3), "steps.0.scores.0: "),
        (step_with(0, logits={}), "step 0: has no logits of rgb48"),
        (step_with(0, logits={"rgb48": []}), "steps.0.logits.rgb48: is empty"),
        (step_with(0, logits={"rgb48": [1.0]}), "step 0: rgb48: 1 numbers instead of"),
        (step_with(6, logits={"rgb48": [1.0]}), "step 6: has logits, and did not run, rgb48"),
        (step_with(0, choice="rgb999"), "step 0: option rgb999 is unknown"),
        (step_with(0, choice=None), "steps.0.choice: "),
        (step_with(1, fused=None), "step 1: fused scores are missing"),
        (step_with(0, fused=[1.0]), "step 0: the fused scores: 1 numbers instead of"),
        (step_with(0, price=-1.0), "steps.0.price: "),
        (step_with(1, scores=None, choice="held", logits={}), "step 1: is held by no skip before it"),
    ],
)
def test_malformed_traces_are_one_error(
    golden: dict[str, Any], damage: Callable[[dict[str, Any]], Any], complaint: str
) -> None:
    trace = copy.deepcopy(golden)
    damage(trace)
    with pytest.raises(
        RecordingError, match=f"decision trace: is malformed: {complaint}.*; trace the stream again"
    ):
        decide_again(trace)


@pytest.mark.parametrize("trace", [None, [], "trace", 1])
def test_what_is_no_trace(trace: Any) -> None:
    with pytest.raises(RecordingError, match="decision trace: is not a JSON object"):
        decide_again(trace)


SOURCE = "test://?size=320x240&rate=10&duration=2&live=0"


def test_a_path_and_an_open_bundle_give_the_same_trace(bundle: Bundle) -> None:
    traces = [trace_decisions(given, SOURCE) for given in (str(bundle.folder), bundle.folder, bundle)]
    assert traces[0] == traces[1] == traces[2]
    assert len(decide_again(json.loads(json.dumps(traces[0])))) == 20


def test_a_path_without_a_bundle_is_said() -> None:
    with pytest.raises(BundleError, match="does not exist"):
        trace_decisions("none.bundle", SOURCE)
