"""LiteRT graphs: the same numbers as torch in float, and as the ONNX graphs in integers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from compiler.export.onnx import exporter as onnx
from compiler.export.policy_graph import PolicyGraph, condition_names
from models.backbones.blocks import Backbone, temporal_pools
from models.backbones.registry import BACKBONES
from models.layers.quantization import ActivationFormat, calibrate, freeze, quantize
from models.policies.conditioning import PRICE_TOP
from models.policies.policy import StepPolicy
from models.rollout.adaptive_model import AdaptiveModel
from models.rollout.branch_model import pixels
from runtimes.spec import ANSWER, PRESENT, PRICE, View
from tests.compiler.export import test_segments as segments
from tests.compiler.export.onnx.test_exporter import (
    VIEW,
    frames,
    integer,
    make,
    relative_error,
    run_branch,
    seen,
)
from tests.models import small_adamml, small_arnet, small_joint
from tests.models.small_arnet import SMALLEST
from tests.runtimes import stored_bundles

pytest.importorskip("ai_edge_litert", reason="LiteRT graphs need ai-edge-litert")
from ai_edge_litert import interpreter, schema_py_generated

from compiler.export.litert.exporter import WIDENED, export_branch, export_policy, float_layers

Arrays = dict[str, NDArray[Any]]
BRANCHES = (SMALLEST, "mobilenetv2")
POLICIES: dict[str, Callable[[], AdaptiveModel]] = {
    "arnet": small_arnet.small_model,
    # Of one view that speaks for two groups.
    "adamml": lambda: small_adamml.small_model(modalities=("rgbdiff", "flow")),
    "joint": small_joint.small_model,
}
OTHER_VIEW = View(name="rgb40", size=40)


class Opened:
    """A graph in the runtime's interpreter, called by name; its input is resized where it has to be."""

    def __init__(self, content: bytes) -> None:
        self._interpreter = interpreter.Interpreter(model_content=content, num_threads=1)
        self._interpreter.allocate_tensors()
        self._signature = self._interpreter.get_signature_runner()
        self.inputs = {entry["name"]: entry for entry in self._interpreter.get_input_details()}
        self.outputs = [entry["name"] for entry in self._interpreter.get_output_details()]

    def __call__(self, **inputs: NDArray[Any]) -> Arrays:
        return dict(self._signature(**inputs))

    def logits(self, pictures: NDArray[np.uint8], count: int | None = None) -> NDArray[np.floating]:
        """Of pictures (N * frames, H, W, C), ``frames`` of them to a run."""
        step = count or 1
        rows = range(0, len(pictures), step)
        return np.concatenate([self(frame=pictures[row : row + step])["logits"] for row in rows])


def exact_session(content: bytes) -> onnxruntime.InferenceSession:
    """A session whose integer kernels do not saturate, whatever this processor has."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def within_a_rounding(got: NDArray[np.floating], wanted: NDArray[np.floating]) -> None:
    """Equal in most rows; where a sum lies between two codes, the next one may have been taken."""
    errors = [relative_error(a, b) for a, b in zip(got, wanted, strict=True)]
    assert max(errors) < 0.1
    assert np.median(errors) < 0.04


@pytest.mark.parametrize("name", BRANCHES)
def test_float_branches_equal_torch(name: str) -> None:
    case, pictures = make(name), frames(3, seed=50)
    wanted = case.run(case.network, pictures)["logits"]
    exact = export_branch(case.network, "net", [VIEW], "fp32")  # type: ignore[arg-type]
    np.testing.assert_allclose(Opened(exact).logits(pictures), wanted, atol=1e-5, rtol=1e-5)


def test_halved_weights() -> None:
    network, pictures = make(SMALLEST).network, frames(3, seed=50)
    exact, halved = (export_branch(network, "net", [VIEW], kind) for kind in ("fp32", "fp16"))  # type: ignore[arg-type]
    assert len(halved) < 0.52 * len(exact)
    assert relative_error(Opened(halved).logits(pictures), Opened(exact).logits(pictures)) < 5e-3


@pytest.mark.parametrize(
    ("name", "activations"), [(SMALLEST, "uint8"), (SMALLEST, "int8"), ("mobilenetv2", "uint8")]
)
def test_integer_branches_equal_the_onnx_graph(name: str, activations: ActivationFormat) -> None:
    network, pictures = integer(name, activations), frames(6, seed=50)
    assert isinstance(network, Backbone)
    content = export_branch(network, "net", [VIEW], "int8")
    session = exact_session(onnx.export_branch(network, "net", [VIEW], activations).SerializeToString())
    got = Opened(content).logits(pictures)
    wanted = np.concatenate([session.run(None, {"frame": row[None]})[0] for row in pictures])
    within_a_rounding(got, wanted)
    within_a_rounding(got, run_branch(network, pictures)["logits"])
    assert float_layers(content) == {WIDENED: 1}, "all but the classifier computes in integers"


def test_resnet50_blocks() -> None:
    """Bottlenecks, whose shortcut may end in another number of channels."""
    torch.manual_seed(0)
    network = BACKBONES["resnet50"](4).eval()
    for layer in network.modules():
        if isinstance(layer, nn.Sequential) and len(layer) > 1 and not isinstance(layer[0], nn.Conv2d):
            del layer[1:]
    got = Opened(export_branch(network, "net", [OTHER_VIEW], "fp32")).logits(frames(2, 40))
    with torch.no_grad():
        wanted = network(seen(frames(2, 40), OTHER_VIEW)).numpy()
    assert relative_error(got, wanted) < 1e-5


def run_both(network: nn.Module, view: View, precision: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Logits of some segments by the graph and by torch."""
    assert isinstance(network, Backbone)
    given = segments.segments(view, 6, seed=50)
    opened = Opened(export_branch(network, "net", [view], precision))
    with torch.no_grad():
        wanted = network(pixels(torch.from_numpy(given), view)).numpy()
    return np.concatenate([opened(frame=segment)["logits"] for segment in given]), wanted


def test_segments() -> None:
    got, wanted = run_both(segments.make("resnet10"), segments.SEGMENTS["resnet10"], "fp32")
    np.testing.assert_allclose(got, wanted, atol=1e-5, rtol=1e-5)


class Bottlenecks(Backbone):
    """Pools over time behind a linear bottleneck, whose values have both signs, as MobileNetV2's do."""

    num_features, frames = 8, 4

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, self.num_features, 3, 2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(self.num_features)
        nn.init.constant_(self.norm.bias, -0.2)  # whole segments are below zero here and there
        self.pools = temporal_pools(self.frames, 2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(self.num_features, 4)

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.conv(x))
        return self.avgpool(self.pools[1](self.pools[0](x))).flatten(1)

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        return self.fc(features)

    def remove_classifier(self) -> None:
        del self.fc


def test_signed_pools_over_time() -> None:
    """The edges of a segment are padded with what is never the largest: zeros would be."""
    torch.manual_seed(0)
    network, view = Bottlenecks().eval(), segments.SEGMENTS["mobilenetv2"]
    got, wanted = run_both(network, view, "fp32")
    np.testing.assert_allclose(got, wanted, atol=1e-5, rtol=1e-5)
    within_a_rounding(*run_both(segments.integer(network, view, "uint8"), view, "int8"))


def test_narrow_codes_are_stored_as_int8() -> None:
    network = stored_bundles.at_bits(stored_bundles.frozen_network("resnet10-narrow"), 2)
    pictures = np.concatenate(stored_bundles.pictures())
    got = Opened(export_branch(network, "net", [stored_bundles.VIEW], "int2")).logits(pictures)
    within_a_rounding(got, run_branch(network, pictures)["logits"])


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_one_graph_serves_several_sizes(precision: str) -> None:
    network = make(SMALLEST).network if precision == "fp32" else integer(SMALLEST, "uint8")
    assert isinstance(network, Backbone)
    opened = Opened(export_branch(network, "net", [VIEW, OTHER_VIEW], precision))
    for view in (OTHER_VIEW, VIEW, View(name="rgb57", size=57)):
        pictures = frames(3, view.size)
        with torch.no_grad():
            wanted = network(seen(pictures, view)).numpy()
        assert relative_error(opened.logits(pictures), wanted) < (1e-5 if precision == "fp32" else 0.1)


def policy_steps(model: AdaptiveModel, count: int) -> list[tuple[Arrays, Arrays]]:
    """Views by input, and the policy's conditions, at each of some steps; groups come and go."""
    policy, random = model.policy, np.random.default_rng(7)
    assert isinstance(policy, StepPolicy)
    steps = []
    for step in range(count):
        conditions = {
            PRESENT: np.array([[group == 0 or (step >> group) % 2 for group in range(policy.num_groups)]]),
            PRICE: np.array([[1.2 * PRICE_TOP * step / count]]),
            ANSWER: random.dirichlet(np.ones(max(policy.recalls, 1)))[None] * (step > 1),
        }
        views = {
            entry: random.integers(0, 256, view.shape, np.uint8) for entry, view in inputs_of(model).items()
        }
        steps.append((views, {name: conditions[name].astype(np.float32) for name in condition_names(policy)}))
    return steps


def inputs_of(model: AdaptiveModel) -> dict[str, View]:
    """The views of a policy by the inputs of its graph."""
    names = model.policy_views
    return {"frame" if len(names) == 1 else name: model.views[name] for name in names}


def run_torch(policy: nn.Module, views: Mapping[str, View], inputs: Arrays) -> list[NDArray[np.floating]]:
    given = [
        pixels(torch.from_numpy(array), views[name]) if name in views else torch.from_numpy(array)
        for name, array in inputs.items()
    ]
    with torch.no_grad():
        return [output.numpy() for output in PolicyGraph(policy)(*given)]  # type: ignore[arg-type]


def integer_policy(model: AdaptiveModel) -> nn.Module:
    quantized = quantize(model.policy, "uint8")  # type: ignore[arg-type]
    zeros = {name: part.numpy() for name, part in quantized.initial_state(1)._asdict().items()}

    def run() -> Any:
        for views, conditions in policy_steps(model, 3):
            run_torch(quantized, inputs_of(model), {**views, **conditions, **zeros})
            yield

    calibrate(quantized, run())
    return freeze(quantized)


@pytest.mark.parametrize(
    ("name", "precision"),
    [("arnet", "int8"), ("adamml", "fp16"), ("joint", "fp32"), ("joint", "int8")],
)
def test_policies(name: str, precision: str) -> None:
    """Their state goes round for some steps, with every input and output by the manifest's names."""
    model = POLICIES[name]()
    policy = integer_policy(model) if precision == "int8" else model.policy
    assert isinstance(policy, StepPolicy)
    heads, views = [f"logits-{head}" for head in range(len(policy.heads))], inputs_of(model)
    content = export_policy(policy, "policy", views, heads, precision)
    opened, state = Opened(content), policy.initial_state(1)._asdict()
    assert list(opened.inputs) == [*views, *condition_names(policy), *state]
    assert opened.outputs == ["scores", *heads, *(f"next_{part}" for part in state)]
    held = {part: value.numpy() for part, value in state.items()}
    got, wanted = defaultdict(list), defaultdict(list)
    for seen_views, conditions in policy_steps(model, 6):
        inputs = {**seen_views, **conditions, **held}
        answer = opened(**inputs)
        for output, exact in zip(opened.outputs, run_torch(policy, views, inputs), strict=True):
            got[output].append(answer[output])
            wanted[output].append(exact)
        held = {part: answer[f"next_{part}"] for part in held}
    for output in opened.outputs:
        rows, exact_rows = np.concatenate(got[output]), np.concatenate(wanted[output])
        if precision == "int8":
            within_a_rounding(rows, exact_rows)
        else:
            tolerance = 1e-5 if precision == "fp32" else 2e-2
            np.testing.assert_allclose(rows, exact_rows, atol=tolerance, rtol=tolerance)
    if precision == "int8":
        assert set(float_layers(content)) == {WIDENED}


def test_float_layers_are_counted() -> None:
    network = make("mobilenetv2").network
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    depthwise = sum(layer.groups > 1 for layer in layers)
    counts = float_layers(export_branch(network, "net", [VIEW], "fp32"))  # type: ignore[arg-type]
    assert counts == {
        "CONV_2D": len(layers) - depthwise,
        "DEPTHWISE_CONV_2D": depthwise,
        "FULLY_CONNECTED": 1,
    }


def test_a_layer_left_in_float_is_counted(tmp_path: Any) -> None:
    """One whose codes were lost on the way, in an otherwise frozen network."""
    torch.manual_seed(0)
    network = freeze(calibrated(quantize(BACKBONES["resnet10-narrow"](4), "uint8")))
    first = network.get_submodule("layer2.0.conv1")
    del first.codes
    assert isinstance(network, Backbone)
    path = tmp_path / "net.tflite"
    path.write_bytes(export_branch(network, "net", [OTHER_VIEW], "int8"))
    assert float_layers(path) == {WIDENED: 1, "CONV_2D": 1}


def calibrated(network: nn.Module) -> nn.Module:
    calibrate(network, (None for seed in range(2) if run_branch(network, frames(4, seed=seed))))
    return network


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_the_same_network_gives_the_same_bytes(precision: str) -> None:
    network = integer(SMALLEST, "uint8") if precision == "int8" else make(SMALLEST).network
    assert isinstance(network, Backbone)
    first, second = (export_branch(network, "net", [VIEW], precision) for _ in range(2))
    assert first == second
    assert first[4:8] == b"TFL3"


def test_weights_are_stored_as_trained_and_aligned() -> None:
    network = integer(SMALLEST, "uint8")
    assert isinstance(network, Backbone)
    content = export_branch(network, "net", [VIEW], "int8")
    model = schema_py_generated.ModelT.InitFromPackedBuf(content, 0)
    stored = {
        tensor.name.decode(): model.buffers[tensor.buffer].data for tensor in model.subgraphs[0].tensors
    }
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d):
            codes = layer.get_buffer("codes").numpy().transpose(0, 2, 3, 1)
            assert stored[f"{name}.weight"].tobytes() == codes.tobytes()
            assert content.find(codes.tobytes()) % 16 == 0


def test_exporting_leaves_the_network_as_it_was() -> None:
    network = make(SMALLEST).network
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    export_branch(network, "net", [VIEW], "fp32")  # type: ignore[arg-type]
    assert network.training
    network.eval()
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_wrong_precisions() -> None:
    network = make(SMALLEST).network
    assert isinstance(network, Backbone)
    with pytest.raises(ValueError, match="is not one of fp32, fp16, int8"):
        export_branch(network, "net", [VIEW], "fp64")
    with pytest.raises(ValueError, match="without frozen codes is not int8"):
        export_branch(network, "net", [VIEW], "int8")
    with pytest.raises(ValueError, match="of frozen codes is not fp32"):
        export_branch(integer(SMALLEST, "uint8"), "net", [VIEW], "fp32")  # type: ignore[arg-type]


def test_segments_have_one_size() -> None:
    network = BACKBONES["resnet10-narrow"](4, frames=4)
    views = [View(name=f"rgb{size}x4", size=size, frames=4) for size in (48, 40)]
    with pytest.raises(ValueError, match="one size, not 2"):
        export_branch(network, "net", views, "fp32")


class Rolled(Backbone):
    """A network with an operator that no model here has."""

    num_features, frames = 3, 1

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        return torch.roll(x.mean((2, 3)), 1, 1)

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        return features

    def remove_classifier(self) -> None:
        return


def test_an_unknown_operator_is_named() -> None:
    with pytest.raises(NotImplementedError, match=r"aten\.mean\.dim.*no counterpart"):
        export_branch(Rolled(), "net", [VIEW], "fp32")
