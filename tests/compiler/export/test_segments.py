"""Graphs of segments and of several views: the numbers of torch, in integers with the pools over time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from compiler.export.onnx.exporter import export_branch, export_policy
from models.backbones.registry import BACKBONES
from models.layers.quantization import ActivationFormat, calibrate, freeze, quantize
from models.policies.policy import PolicyOutput, StepPolicy
from models.rollout.branch_model import pixels
from runtimes.spec import View
from tests.compiler.export.onnx.test_exporter import relative_error, session
from tests.models.small_adamml import random_frames, small_model

SEGMENTS = {
    "resnet10": View(name="rgb", size=48, frames=8),
    "mobilenetv2": View(name="flow", modality="flow", size=48, frames=4, stack=2),
    "resnet18": View(name="sound", modality="audio", size=48),
}
MODEL = small_model()
PRICE = 2.0
POLICY_VIEWS = {name: MODEL.views[name] for name in MODEL.policy_views}


def segments(view: View, count: int, seed: int = 0) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(0, 256, (count, view.frames, 6, 6, view.channels), np.uint8)
    side = view.size // 6
    return np.ascontiguousarray(coarse.repeat(side, 2).repeat(side, 3))


def make(name: str) -> nn.Module:
    torch.manual_seed(0)
    view = SEGMENTS[name]
    network = BACKBONES[name](4, in_channels=view.channels, frames=view.frames).train()
    for seed in range(8):
        network(pixels(torch.from_numpy(segments(view, 6, seed)), view))
    return network.eval()


def integer(network: nn.Module, view: View, activations: ActivationFormat) -> nn.Module:
    quantized = quantize(network, activations)

    def run() -> None:
        quantized(pixels(torch.from_numpy(segments(view, 6)), view))

    calibrate(quantized, (run() for _ in range(2)))
    return freeze(quantized)


@pytest.mark.parametrize("name", SEGMENTS)
@pytest.mark.parametrize("activations", [None, "uint8", "int8"])
def test_branches(name: str, activations: ActivationFormat | None, tmp_path: Path) -> None:
    view, network = SEGMENTS[name], make(name)
    if activations is not None:
        network = integer(network, view, activations)
    model = export_branch(network, "net", [view], activations)  # type: ignore[arg-type]
    opened = session(model, tmp_path / "optimized.onnx")
    seen = segments(view, 8, seed=50)
    assert opened.get_inputs()[0].shape == list(view.shape)
    got = np.concatenate([opened.run(None, {"frame": segment})[0] for segment in seen])
    with torch.no_grad():
        wanted = network(pixels(torch.from_numpy(seen), view)).numpy()
    assert relative_error(got, wanted) < (1e-4 if activations is None else 0.1)
    if activations == "uint8":
        kinds = Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)
        layers = Counter(type(m) for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear))
        assert (kinds["QLinearConv"], kinds["QGemm"]) == (layers[nn.Conv2d], layers[nn.Linear])
        assert not {"Conv", "FusedConv", "Gemm", "Relu", "Add", "QuantizeLinear", "DequantizeLinear"} & set(
            kinds
        )


def advance(policy: nn.Module, step: int, present: NDArray[np.float32], state: tuple) -> PolicyOutput:  # type: ignore[type-arg]
    assert isinstance(policy, StepPolicy)
    seen = [
        pixels(random_frames(MODEL, name, 6)[step : step + 1], view) for name, view in POLICY_VIEWS.items()
    ]
    with torch.no_grad():
        conditions = policy.encode_conditions(torch.tensor([[PRICE]]), None)
        return policy.advance(policy.join(policy.embed(*seen), torch.from_numpy(present)), conditions, state)


def integer_policy(activations: ActivationFormat) -> nn.Module:
    quantized = quantize(MODEL.policy, activations)
    assert isinstance(quantized, StepPolicy)

    def run() -> None:
        state = quantized.initial_state(1)
        for step in range(6):
            present = np.ones((1, 3), np.float32)
            present[0, step % 3] = step % 2
            state = advance(quantized, step, present, state).state

    calibrate(quantized, (run() for _ in range(2)))
    return freeze(quantized)


@pytest.mark.parametrize("activations", [None, "uint8", "int8"])
def test_a_policy_of_several_views(activations: ActivationFormat | None, tmp_path: Path) -> None:
    """Its state goes round; what is absent changes nothing; no layer is left in float."""
    policy = MODEL.policy if activations is None else integer_policy(activations)
    assert isinstance(policy, StepPolicy)
    opened = session(
        export_policy(policy, "policy", POLICY_VIEWS, [], activations), tmp_path / "optimized.onnx"
    )
    assert [entry.name for entry in opened.get_inputs()] == [
        *POLICY_VIEWS,
        "present",
        "price",
        "h",
        "c",
        "last_scores",
    ]
    outputs = [output.name for output in opened.get_outputs()]
    assert outputs == ["scores", "next_h", "next_c", "next_last_scores"]
    state = policy.initial_state(1)
    for step in range(6):
        present = np.array([[1, step % 2, step // 2 % 2]], np.float32)
        inputs = {name: random_frames(MODEL, name, 6)[step].numpy() for name in POLICY_VIEWS}
        inputs |= {"present": present, "price": np.array([[PRICE]], np.float32)}
        inputs |= {name: part.numpy() for name, part in state._asdict().items()}
        got = dict(zip(outputs, opened.run(None, inputs), strict=True))
        answer = advance(policy, step, present, state)
        for name, wanted in (("scores", answer.scores), ("next_h", answer.state.h)):
            np.testing.assert_allclose(got[name], wanted.numpy(), atol=1e-4 if activations is None else 0.2)
        np.testing.assert_array_equal(got["scores"], got["next_last_scores"])
        if not present[0, 1]:
            other = dict(
                zip(outputs, opened.run(None, inputs | {"audio16": 255 - inputs["audio16"]}), strict=True)
            )
            np.testing.assert_array_equal(other["scores"], got["scores"])
        state = answer.state
    if activations == "uint8":
        kinds = {node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node}
        assert not {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "AveragePool"} & kinds
