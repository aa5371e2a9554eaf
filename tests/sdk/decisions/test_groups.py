"""Choosing in several groups: which runs where one must, what is absent, and what a stream then says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from runtimes.bundle import Bundle, write_bundle
from runtimes.errors import AdaptiveVideoError
from runtimes.spec import ActionSpace, Fusion, Graph, Group, Option, Policy, Steps, Tensor, Variant, View
from sdk.decisions import step_pipeline as pipelines
from sdk.decisions.choosers import FixedChoice, LearnedChoice, RandomChoice
from sdk.decisions.decision_loop import DecisionLoop
from sdk.decisions.fusion import StepFusion
from sdk.decisions.option_costs import most_expensive_choice
from sdk.errors import SourceError, SourceErrorCode
from sdk.media.absence import NO_TRACK, SOUND_IS_LATE, Absence
from sdk.media.frames import Frame
from sdk.recognizer import StreamRecognizer
from tests.sdk.decisions.deciding import choice_of, choose, step
from tests.sdk.films import BRIGHT, film

VIEWS = {"rgb": "rgb24", "audio": "audio24", "flow": "flow24"}


def group(name: str, optional: bool = True) -> Group:
    branch = Option(name=name, graph=f"net-{name}", view=VIEWS[name], precision="fp32")
    return Group(name=name, options=(branch, Option(name=f"{name}-off", skip=1)), optional=optional)


SPACE = ActionSpace(groups=tuple(group(name) for name in VIEWS))
COSTS = np.array([8.0, 0.0, 2.0, 0.0, 16.0, 0.0])
SCORES = st.lists(st.integers(-3, 3).map(float), min_size=6, max_size=6)


def ran(options: tuple[Option, ...]) -> set[str]:
    return {option.name for option in options if option.graph}


def test_each_group_chooses_for_itself() -> None:
    chosen = choose(np.array([2.0, 1, 0, 1, 5, 1]), SPACE, COSTS, 0.0, allow_skip=True)
    assert [option.name for option in chosen] == ["rgb", "audio-off", "flow"]
    chosen = choose(np.array([2.0, 1, 0, 1, 5, 1]), SPACE, COSTS, 4.0, allow_skip=True)
    assert [option.name for option in chosen] == ["rgb-off", "audio-off", "flow-off"]


def test_where_one_must_run_it_is_the_one_that_gives_up_least() -> None:
    scores = np.array([0.0, 1, -2, 1, 0.5, 1])
    assert ran(choose(scores, SPACE, COSTS, 0.0, allow_skip=False)) == {"flow"}
    assert ran(choose(scores, SPACE, COSTS, 8.0, allow_skip=False)) == {"audio"}
    assert ran(choose(np.zeros(6), SPACE, COSTS, 0.0, allow_skip=False)) == {"rgb"}  # the first of equals


@given(SCORES, st.sampled_from([0.0, 4.0, 16.0]), st.booleans(), st.sets(st.sampled_from(list(VIEWS))))
def test_absent_groups_are_not_chosen(
    scores: list[float], price: float, allow_skip: bool, absent: set[str]
) -> None:
    views = {VIEWS[name] for name in absent}
    choosers = LearnedChoice(SPACE, COSTS), RandomChoice(SPACE, 3)
    for chooser in choosers:
        options = choice_of(chooser, np.array(scores), price, allow_skip, views).options
        assert len(options) == 3 and not ran(options) & absent
        if not allow_skip and len(absent) < 3:
            assert ran(options)


def test_random_choices_are_of_all_kinds() -> None:
    chooser = RandomChoice(SPACE, 0)
    kinds = {frozenset(ran(choice_of(chooser, None, 0.0, True).options)) for _ in range(200)}
    assert len(kinds) == 8
    forced = {frozenset(ran(choice_of(chooser, None, 0.0, False).options)) for _ in range(200)}
    assert frozenset() not in forced


def test_a_stream_of_nothing_answers_when_something_comes() -> None:
    loop = DecisionLoop(LearnedChoice(SPACE, COSTS))
    off = [0.0, 1, 0, 1, 0, 1]
    everything = set(VIEWS.values())
    assert not ran(step(loop, off, everything).options)
    assert ran(step(loop, off).options) == {"rgb"}
    assert not ran(step(loop, off).options)


def variant(policy: bool = False, optional: bool = True) -> Variant:
    spaces = ActionSpace(groups=tuple(group(name, optional) for name in VIEWS))
    views = ("rgb24", "audio24")
    made = Policy(graph="policy", views=views, state={"h": (1, 3)}) if policy else None
    if made is None:
        branches = tuple(g.model_copy(update={"options": g.options[:1]}) for g in spaces.groups)
        spaces = ActionSpace(groups=branches)
    return Variant(name="fp32", policy=made, action_space=spaces)


def test_fixed_choices_of_several_groups() -> None:
    chooser = FixedChoice(variant(policy=True), "flow+rgb", every=2)
    assert chooser.option == "rgb+flow" and not chooser.runs_policy
    decision = choice_of(chooser, None, 0.0, False)
    assert [option.name for option in decision.options] == [
        "rgb",
        "audio-off",
        "flow",
    ] and decision.holds == 1
    lacking = choice_of(chooser, None, 0.0, False, {"flow24"})
    assert [option.name for option in lacking.options] == ["rgb", "audio-off", "flow-off"]
    assert FixedChoice(variant()).option == "rgb+audio+flow"
    assert most_expensive_choice(variant(policy=True), COSTS) == "rgb+audio+flow"


@pytest.mark.parametrize("option", ["rgb+smell", "rgb+rgb", "rgb-off", "", "rgb+"])
def test_fixed_choices_that_are_none(option: str) -> None:
    with pytest.raises(AdaptiveVideoError, match=r"rgb, audio, flow, or several joined by \+|of each group"):
        FixedChoice(variant(policy=True), "rgb").branches(option)


def test_weighted_logits() -> None:
    weights = {"rgb": 0.5, "audio": 0.25, "flow": 0.25}
    rgb, audio = (g.options[0] for g in SPACE.groups[:2])
    one, other = np.array([4.0, 0.0], np.float32), np.array([1.0, 3.0], np.float32)
    fused = StepFusion(Fusion(weights=weights), SPACE)
    assert fused.fuse([]) is None
    np.testing.assert_allclose(fused.fuse([(audio, other)]), other)  # type: ignore[arg-type]
    np.testing.assert_allclose(fused.fuse([(rgb, one), (audio, other)]), [3.0, 1.0])  # type: ignore[arg-type]
    released = StepFusion(Fusion(weights=weights, renormalised=False), SPACE)
    np.testing.assert_allclose(released.fuse([(audio, other)]), other / 4)  # type: ignore[arg-type]
    plain = StepFusion(Fusion(), SPACE)
    np.testing.assert_allclose(plain.fuse([(rgb, one), (audio, other)]), [2.5, 1.5])  # type: ignore[arg-type]


LABELS = ("archery", "bowling")


def build(folder: Path, optional: bool = True) -> Bundle:
    """Branches that always say the same; the policy wants what it is told is there, and h is what it saw."""
    files = folder / "files"
    files.mkdir(parents=True)
    graphs = []
    for place, (name, view) in enumerate(VIEWS.items()):
        constant = numpy_helper.from_array(np.array([[place, 1.0]], np.float32), "said")
        nodes = [
            helper.make_node("Cast", ["frame"], ["pixels"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["pixels"], ["mean"], keepdims=0),
            helper.make_node("Sub", ["mean", "mean"], ["nothing"]),
            helper.make_node("Add", ["said", "nothing"], ["logits"]),
        ]
        entry = helper.make_tensor_value_info("frame", TensorProto.UINT8, (1, 24, 24, 3))
        answer = helper.make_tensor_value_info("logits", TensorProto.FLOAT, (1, 2))
        save(files / f"net-{name}.onnx", helper.make_graph(nodes, name, [entry], [answer], [constant]))
        shape, said = (Tensor(dtype="uint8", shape=(1, 24, 24, 3)), Tensor(dtype="float32", shape=(1, 2)))
        graphs.append(
            Graph(
                target="cpu",
                name=f"net-{name}",
                file=f"net-{name}.onnx",
                precision="fp32",
                role="branch",
                inputs={"frame": shape},
                outputs={"logits": said},
                macs={view: 1},
            )
        )
    save(files / "policy.onnx", policy_graph())
    three = Tensor(dtype="float32", shape=(1, 3))
    inputs = dict.fromkeys(("rgb24", "audio24"), shape) | {"present": three, "h": three}
    inputs |= {"price": Tensor(dtype="float32", shape=(1, 1))}
    outputs = {"scores": Tensor(dtype="float32", shape=(1, 6)), "next_h": three}
    graphs.append(
        Graph(
            target="cpu",
            name="policy",
            file="policy.onnx",
            precision="fp32",
            role="policy",
            inputs=inputs,
            outputs=outputs,
            macs={"rgb24": 1},
        )
    )
    fields = {
        "model": "adamml",
        "preset": "small",
        "target": "cpu",
        "labels": LABELS,
        "views": tuple(View(name=name, size=24) for name in VIEWS.values()),
        "steps": Steps(rate_hz=10, clip_steps=4),
        "fusion": Fusion(window=4, weights={"rgb": 0.5, "audio": 0.25, "flow": 0.25}),
        "graphs": tuple(graphs),
        "variants": (variant(policy=True, optional=optional),),
        "default_variant": "fp32",
    }
    return write_bundle(folder / "groups.bundle", files, fields)


def policy_graph() -> onnx.GraphProto:
    """scores = 2 * present - 1 for each branch, 0 to leave it out; next_h = present."""
    spread = np.zeros((3, 6), np.float32)
    spread[[0, 1, 2], [0, 2, 4]] = 2
    constants = {"spread": spread, "less": np.array([[1, 0, 1, 0, 1, 0]], np.float32)}
    nodes = [
        helper.make_node("MatMul", ["present", "spread"], ["wanted"]),
        helper.make_node("Sub", ["wanted", "less"], ["plain"]),
        helper.make_node("Cast", ["rgb24"], ["rgb"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["audio24"], ["audio"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["rgb", "audio"], ["both"]),
        helper.make_node("ReduceMean", ["both"], ["mean"], keepdims=0),
        helper.make_node("Add", ["mean", "price"], ["told"]),
        helper.make_node("Sub", ["told", "told"], ["nothing"]),
        helper.make_node("Add", ["plain", "nothing"], ["scores"]),
        helper.make_node("Sub", ["h", "h"], ["zero"]),
        helper.make_node("Add", ["present", "zero"], ["next_h"]),
    ]

    def value(name: str, shape: tuple[int, ...], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    inputs = [value(view, (1, 24, 24, 3), TensorProto.UINT8) for view in ("rgb24", "audio24")]
    inputs += [value("present", (1, 3)), value("price", (1, 1)), value("h", (1, 3))]
    outputs = [value("scores", (1, 6)), value("next_h", (1, 3))]
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    return helper.make_graph(nodes, "policy", inputs, outputs, initializers)


def save(path: Path, graph: onnx.GraphProto) -> None:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)


class Flaky:
    """A renderer of gray squares; what stands in ``lacking`` and ``failing`` by view is absent, or fails."""

    lacking: dict[str, Absence] = {}
    failing: set[str] = set()

    def __init__(self, view: View) -> None:
        self.view = view

    def absent(self, frame: Frame) -> str | None:
        return self.lacking.get(self.view.name)

    def render(self, frame: Frame) -> np.ndarray:
        assert self.view.name not in self.lacking, "what is absent is not rendered"
        if self.view.name in self.failing:
            raise SourceError("clip", "broke off", "give another", SourceErrorCode.CORRUPT)
        return np.full(self.view.shape, 7, np.uint8)


@pytest.fixture(scope="module")
def groups_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return build(tmp_path_factory.mktemp("groups"))


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> type[Flaky]:
    monkeypatch.setattr(pipelines, "renderer", Flaky)
    monkeypatch.setattr(Flaky, "lacking", {})
    monkeypatch.setattr(Flaky, "failing", set())
    return Flaky


def test_what_became_of_each_modality(groups_bundle: Bundle, flaky: type[Flaky]) -> None:
    with StreamRecognizer(groups_bundle, "cpu") as recognizer:
        stream = recognizer.stream(film([BRIGHT] * 8))
        whole = next(stream)
        assert whole.choice == "rgb+audio+flow"
        assert whole.modalities == {"rgb": "ran", "audio": "ran", "flow": "ran"}
        flaky.lacking = {"audio24": NO_TRACK, "flow24": SOUND_IS_LATE}
        lacking = next(stream)
        assert lacking.choice == "rgb+audio-off+flow-off"
        assert lacking.modalities == {"rgb": "ran", "audio": "absent: no audio track", "flow": "late"}
        flaky.lacking, flaky.failing = {}, {"flow24"}
        failed = next(stream)
        assert failed.modalities == {"rgb": "ran", "audio": "ran", "flow": "failed: broke off"}
        flaky.failing = set()
        assert next(stream).modalities == whole.modalities
        stream.close()
    assert whole.to_json()["modalities"] == whole.modalities


def test_what_does_not_run_says_nothing(groups_bundle: Bundle, flaky: type[Flaky]) -> None:
    """rgb says 0, 1; audio 1, 1; flow 2, 1: weighed by what ran."""
    flaky.lacking = {"flow24": "no earlier picture"}
    with StreamRecognizer(groups_bundle, "cpu") as recognizer:
        (result,) = recognizer.stream(film([BRIGHT]))
    powers = np.exp([1 / 3, 1.0])
    assert [dict(result.top)[label] for label in LABELS] == pytest.approx((powers / powers.sum()).tolist())


def test_a_stream_of_nothing_says_nothing(groups_bundle: Bundle, flaky: type[Flaky]) -> None:
    flaky.lacking = dict.fromkeys(VIEWS.values(), "late")
    with StreamRecognizer(groups_bundle, "cpu") as recognizer:
        stream = recognizer.stream(film([BRIGHT] * 2))
        nothing = next(stream)
        assert (nothing.label, nothing.score, nothing.top, nothing.precision) == ("", 0.0, (), None)
        assert set(nothing.modalities.values()) == {"late"}
        flaky.lacking = {}
        assert next(stream).label in LABELS
        stream.close()


def test_a_source_without_what_the_model_needs(tmp_path: Path, flaky: type[Flaky]) -> None:
    needing = build(tmp_path, optional=False)
    flaky.lacking = {"audio24": NO_TRACK}
    with (
        StreamRecognizer(needing, "cpu") as recognizer,
        pytest.raises(AdaptiveVideoError, match=r"modality audio: the source has none \(no audio track\)"),
    ):
        next(recognizer.stream(film([BRIGHT])))


@pytest.mark.parametrize(("fixed", "wanted"), [("rgb+flow", "rgb+audio-off+flow"), ("audio", None)])
def test_fixed_modalities(groups_bundle: Bundle, flaky: type[Flaky], fixed: str, wanted: str | None) -> None:
    with StreamRecognizer(groups_bundle, "cpu", fixed=fixed) as recognizer:
        (result,) = recognizer.stream(film([BRIGHT]))
        assert recognizer.fixed == fixed
        assert result.choice == (wanted or "rgb-off+audio+flow-off")
        assert "policy" not in recognizer.stats().graph_runs
        recognizer.fixed = "rgb+audio"
        assert next(recognizer.stream(film([BRIGHT]))).modalities["flow"] == "not chosen"
