"""ONNX graphs: the same numbers as torch in float, and nothing but integers in int8."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from compiler.export.onnx.exporter import FRAME, export_branch, export_policy, save
from models.backbones.blocks import Backbone
from models.backbones.registry import BACKBONES
from models.layers.quantization import ActivationFormat, calibrate, freeze, quantize
from models.policies.conditioning import PRICE_TOP
from models.policies.policy import RecurrentPolicy, State
from models.rollout.branch_model import pixels
from runtimes.engines.onnx import session_options
from runtimes.spec import View
from tests.models.small_arnet import SMALLEST

VIEW = View(name="rgb64", size=64)
HIDDEN = 16
NETWORKS = ("resnet18", SMALLEST, "mobilenetv2", "policy")
Inputs = dict[str, NDArray[np.generic]]


def frames(count: int, size: int = VIEW.size, seed: int = 0) -> NDArray[np.uint8]:
    """Pictures of coarse random squares: uint8 (count, size, size, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), np.uint8)
    return np.ascontiguousarray(coarse.repeat(-(-size // 8), 1).repeat(-(-size // 8), 2)[:, :size, :size])


def seen(pictures: NDArray[np.uint8], view: View = VIEW) -> torch.Tensor:
    return pixels(torch.from_numpy(pictures), view)


class Case(NamedTuple):
    """A float network, and what runs it: (network, frames) to its outputs by name, each (N, ...)."""

    name: str
    network: nn.Module
    run: Callable[[nn.Module, NDArray[np.uint8]], dict[str, NDArray[np.floating]]]


def run_branch(network: nn.Module, pictures: NDArray[np.uint8]) -> dict[str, NDArray[np.floating]]:
    with torch.no_grad():
        return {"logits": network(seen(pictures)).numpy()}


def states(count: int) -> dict[str, NDArray[np.float32]]:
    random = np.random.default_rng(5)
    return {name: random.uniform(-0.9, 0.9, (count, HIDDEN)).astype(np.float32) for name in ("h", "c")}


def prices(count: int) -> NDArray[np.float32]:
    """From 0 to beyond the range that policies are trained for."""
    return np.linspace(0, 1.2 * PRICE_TOP, count, dtype=np.float32)[:, None]


def run_policy(network: nn.Module, pictures: NDArray[np.uint8]) -> dict[str, NDArray[np.floating]]:
    assert isinstance(network, RecurrentPolicy)
    state = {name: torch.from_numpy(value) for name, value in states(len(pictures)).items()}
    with torch.no_grad():
        features = network.embed(seen(pictures))
        conditions = network.encode_conditions(torch.from_numpy(prices(len(pictures))), None)
        output = network.advance(features, conditions, State(**state))
        named = {"scores": output.scores, "logits": network.head_logits(features)[0]}
        named |= {"next_h": output.state.h, "next_c": output.state.c}
    return {name: value.numpy() for name, value in named.items()}


@functools.cache
def make(name: str) -> Case:
    """A network whose batch norms know the pictures."""
    torch.manual_seed(0)
    network: nn.Module
    if name == "policy":
        network = RecurrentPolicy(BACKBONES[SMALLEST](4), HIDDEN, num_options=7, num_classes=4)
        nn.init.normal_(network.score.weight)
        case = Case(name, network, run_policy)
    else:
        network = BACKBONES[name](4)
        case = Case(name, network, run_branch)
    network.train()
    for seed in range(10):
        case.run(network, frames(8, seed=seed))
    network.eval()
    return case


@pytest.fixture(scope="module", params=NETWORKS)
def case(request: pytest.FixtureRequest) -> Case:
    return make(request.param)


@functools.cache
def integer(name: str, activations: ActivationFormat) -> nn.Module:
    """The frozen int8 network."""
    case = make(name)
    quantized = quantize(case.network, activations)
    calibrate(quantized, (None for seed in range(3) if case.run(quantized, frames(8, seed=seed))))
    return freeze(quantized)


def export(network: nn.Module, activations: ActivationFormat | None, name: str = "net") -> onnx.ModelProto:
    if isinstance(network, RecurrentPolicy):
        return export_policy(network, name, {FRAME: VIEW}, ["logits"], activations)
    assert isinstance(network, Backbone)
    return export_branch(network, name, [VIEW], activations)


def session(model: onnx.ModelProto, optimized: Path | None = None) -> onnxruntime.InferenceSession:
    options = session_options(threads=1)
    options.log_severity_level = 3
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def run_graph(
    opened: onnxruntime.InferenceSession, pictures: NDArray[np.uint8]
) -> dict[str, NDArray[np.floating]]:
    """A graph's outputs frame by frame, stacked."""
    outputs = [output.name for output in opened.get_outputs()]
    policy = len(opened.get_inputs()) > 1
    extra = {**states(len(pictures)), "price": prices(len(pictures))} if policy else {}
    rows = [
        opened.run(
            None, {FRAME: pictures[i : i + 1], **{name: value[i : i + 1] for name, value in extra.items()}}
        )
        for i in range(len(pictures))
    ]
    return {name: np.concatenate([row[k] for row in rows]) for k, name in enumerate(outputs)}


def relative_error(got: NDArray[np.floating], wanted: NDArray[np.floating]) -> float:
    return float(np.linalg.norm(got - wanted) / np.linalg.norm(wanted))


def test_float_graphs_equal_torch(case: Case) -> None:
    pictures = frames(4, seed=50)
    got, wanted = run_graph(session(export(case.network, None)), pictures), case.run(case.network, pictures)
    assert list(got) == list(wanted)
    for name, value in wanted.items():
        np.testing.assert_allclose(got[name], value, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("activations", ["uint8", "int8"])
def test_integer_graphs_equal_the_frozen_network(case: Case, activations: ActivationFormat) -> None:
    network, pictures = integer(case.name, activations), frames(16, seed=50)
    got, wanted = run_graph(session(export(network, activations)), pictures), case.run(network, pictures)
    for name, value in wanted.items():
        assert relative_error(got[name], value) < 0.1, name


def test_every_layer_fuses(case: Case, tmp_path: Path) -> None:
    """ONNX Runtime is left no layer, activation, pool or addition to compute in float."""
    network = integer(case.name, "uint8")
    session(export(network, "uint8"), tmp_path / "optimized.onnx")
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
    layers = Counter(type(m) for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear))
    assert kinds["QLinearConv"] == layers[nn.Conv2d]
    assert kinds["QGemm"] == layers[nn.Linear]
    conditions = {"Clip"} if case.name == "policy" else set()  # of the price, which is no activation
    assert (
        not {
            "Conv",
            "FusedConv",
            "Gemm",
            "MatMul",
            "Relu",
            "Clip",
            "AveragePool",
            "GlobalAveragePool",
        }
        & set(kinds) - conditions
    )


@pytest.fixture(scope="module")
def symmetric(case: Case) -> onnx.ModelProto:
    """The graph for Jetsons."""
    return export(integer(case.name, "int8"), "int8")


def test_symmetric_graphs_are_explicitly_quantized(symmetric: onnx.ModelProto) -> None:
    """Every layer reads DequantizeLinear on data, weights and bias, and is symmetric: what TensorRT takes."""
    graph = symmetric.graph
    producers = {output: node for node in graph.node for output in node.output}
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    assert layers
    for layer in layers:
        for name in layer.input:
            assert producers[name].op_type == "DequantizeLinear", (layer.name, name)
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert not values[node.input[2]].any(), node.name
            assert values[node.input[2]].dtype in (np.int8, np.int32)


def test_symmetric_graphs_take_frames_exactly(symmetric: onnx.ModelProto) -> None:
    """All 256 values of a pixel survive the signed quantizer at the input."""
    model = onnx.ModelProto()
    model.CopyFrom(symmetric)
    first = next(node for node in model.graph.node if node.op_type == "Conv").input[0]
    del model.graph.output[:]
    model.graph.output.append(onnx.helper.make_tensor_value_info(first, onnx.TensorProto.FLOAT, None))
    opened = session(model)
    ramp = np.resize(np.arange(256, dtype=np.uint8), (1, VIEW.size, VIEW.size, 3))
    inputs = {FRAME: ramp} | {v.name: np.zeros(v.shape, np.float32) for v in opened.get_inputs()[1:]}
    np.testing.assert_array_equal(opened.run(None, inputs)[0], seen(ramp).numpy())


@pytest.mark.parametrize("activations", ["uint8", "int8"])
def test_weights_are_stored_as_trained(activations: ActivationFormat) -> None:
    network = integer(SMALLEST, activations)
    stored = {t.name: numpy_helper.to_array(t) for t in export(network, activations).graph.initializer}
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            assert stored[f"{name}.weight.codes"].dtype == np.int8
            np.testing.assert_array_equal(stored[f"{name}.weight.codes"], layer.get_buffer("codes").numpy())
    large = [name for name, value in stored.items() if value.dtype == np.float32 and value.ndim > 1]
    assert not large, "float weights beside the integer ones"


@pytest.mark.parametrize("activations", [None, "uint8"])
def test_one_graph_serves_several_sizes(activations: ActivationFormat | None) -> None:
    case = make(SMALLEST)
    network = case.network if activations is None else integer(case.name, activations)
    assert isinstance(network, Backbone)
    views = [VIEW, View(name="rgb40", size=40)]
    opened = session(export_branch(network, "net", views, activations))
    for view in views:
        pictures = frames(4, view.size)
        with torch.no_grad():
            wanted = network(seen(pictures, view)).numpy()
        got = run_graph(opened, pictures)["logits"]
        assert relative_error(got, wanted) < (1e-4 if activations is None else 0.1)


def test_graphs_are_called_what_they_were_named(case: Case) -> None:
    for name in ("arnet-rgb64-fp32", "arnet-rgb48-fp32"):
        assert export(case.network, None, name).graph.name == name


@pytest.mark.parametrize("activations", [None, "uint8", "int8"])
def test_weights_lie_in_a_file_beside_the_graph(tmp_path: Path, activations: ActivationFormat | None) -> None:
    case = make(SMALLEST)
    network = case.network if activations is None else integer(case.name, activations)
    model = export(network, activations)
    before = run_graph(session(model), frames(2))
    files = save(model, tmp_path / "net.onnx")
    assert [file.name for file in files] == ["net.onnx", "net.weights"]
    assert files[0].stat().st_size < files[1].stat().st_size
    options, providers = session_options(threads=1), ["CPUExecutionProvider"]
    opened = onnxruntime.InferenceSession(str(files[0]), options, providers=providers)
    np.testing.assert_array_equal(run_graph(opened, frames(2))["logits"], before["logits"])


def test_exporting_leaves_the_network_as_it_was(case: Case) -> None:
    case.network.train()
    export(case.network, None)
    assert case.network.training
    case.network.eval()
