"""A small real bundle: a policy that goes by brightness, and one network in fp32 and int8 for its branches.

Bright frames (mean above 0.6 of white) choose ``rgb224``, dark ones (below 0.2) ``skip4``, others ``rgb112``.
The policy's state ``h`` counts its runs, so that a test can see whether it ran.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from runtimes.bundle import Bundle, write_bundle
from runtimes.spec import (
    ActionSpace,
    CostTable,
    Fusion,
    Graph,
    GraphCost,
    Group,
    Option,
    Policy,
    Steps,
    Tensor,
    Variant,
    View,
    ViewCost,
)

LABELS = ("archery", "bowling", "cricket", "diving", "fencing")
STATE = (1, 8)
SIZES = {"rgb84": 84, "rgb112": 112, "rgb224": 224}


def build_bundle(destination: Path, scratch: Path, **overrides: Any) -> Bundle:
    """Write the bundle; ``overrides`` replace fields of its manifest."""
    files = scratch / "files"
    files.mkdir(parents=True)
    save_model(policy_model(), files / "policy.onnx")
    save_model(_branch_model(), files / "net-fp32.onnx", weights="net-fp32.data")
    _quantize(files / "net-fp32.onnx", files / "net-int8.onnx")
    return write_bundle(destination, files, manifest_fields() | overrides)


def manifest_fields() -> dict[str, Any]:
    """The manifest of the small bundle, all but ``files``."""
    views = tuple(View(name=name, size=size) for name, size in SIZES.items())
    return {
        "model": "arnet",
        "preset": "tiny",
        "target": "cpu",
        "labels": LABELS,
        "views": views,
        "steps": Steps(rate_hz=10, clip_steps=16),
        "fusion": Fusion(window=16),
        "graphs": (policy_graph(), _branch_graph("fp32", ("net-fp32.data",)), _branch_graph("int8")),
        "variants": (_variant("fp32"), _variant("int8")),
        "default_variant": "int8",
        "cost_tables": (cost_table(),),
    }


def cost_table(device: str = "bench board", scale: float = 1.0) -> CostTable:
    """Costs in ms that grow with the view's size."""
    milliseconds = {"rgb84": 1.0, "rgb112": 2.0, "rgb224": 8.0}
    rows = [GraphCost(graph="policy", view="rgb84", p50_ms=0.5 * scale, p95_ms=0.5 * scale)]
    rows += [
        GraphCost(graph=f"net-{precision}", view=view, p50_ms=ms * scale, p95_ms=ms * scale)
        for precision in ("fp32", "int8")
        for view, ms in milliseconds.items()
    ]
    views = tuple(ViewCost(view=view, p50_ms=0.1 * scale, p95_ms=0.1 * scale) for view in SIZES)
    providers = ("CPUExecutionProvider",)
    return CostTable(device=device, providers=providers, threads=1, graphs=tuple(rows), views=views)


def _variant(precision: str) -> Variant:
    branches = (
        Option(name=view, graph=f"net-{precision}", view=view, precision=precision)
        for view in ("rgb224", "rgb112", "rgb84")
    )
    head = Option(name="head", graph="policy", view="rgb84", precision="fp32")
    group = Group(name="step", options=(*branches, head, Option(name="skip4", skip=4)))
    state = {"h": STATE, "c": STATE}
    policy = Policy(graph="policy", views=("rgb84",), state=state, heads={"step": "logits"})
    return Variant(name=precision, policy=policy, action_space=ActionSpace(groups=(group,)))


def policy_graph() -> Graph:
    state = Tensor(dtype="float32", shape=STATE)
    return Graph(
        target="cpu",
        name="policy",
        file="policy.onnx",
        precision="fp32",
        role="policy",
        inputs={
            "frame": Tensor(dtype="uint8", shape=(1, 84, 84, 3)),
            "price": Tensor(dtype="float32", shape=(1, 1)),
            "h": state,
            "c": state,
        },
        outputs={
            "scores": Tensor(dtype="float32", shape=(1, 5)),
            "logits": Tensor(dtype="float32", shape=(1, len(LABELS))),
            "next_h": state,
            "next_c": state,
        },
        macs={"rgb84": 1000},
    )


def _branch_graph(precision: str, weight_files: tuple[str, ...] = ()) -> Graph:
    return Graph(
        target="cpu",
        name=f"net-{precision}",
        file=f"net-{precision}.onnx",
        weight_files=weight_files,
        precision=precision,
        role="branch",
        inputs={"frame": Tensor(dtype="uint8", shape=(1, None, None, 3))},
        outputs={"logits": Tensor(dtype="float32", shape=(1, len(LABELS)))},
        macs={"rgb84": 10_000, "rgb112": 20_000, "rgb224": 80_000},
    )


def policy_model() -> onnx.ModelProto:
    """scores = slope * brightness + offset - price * fear; next_h = h + 1; logits lean on brightness and h.

    The fear is of rgb84 alone, which is never the best anyway: a test can see by its score what it was told.
    """
    constants = {
        "white": np.float32(255),
        "slope": np.array([[2, 0, 0, 0, -2]], np.float32),
        "offset": np.array([[-1, 0.2, -5, -5, 0.6]], np.float32),
        "fear": np.array([[0, 0, 1, 0, 0]], np.float32),
        "one": np.float32(1),
        "weights": np.array([[1, -1, 2, 0, 0.5]], np.float32),
        "drift": np.full((STATE[1], len(LABELS)), 0.01, np.float32)
        * np.arange(len(LABELS), dtype=np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["frame"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels"], ["mean"], keepdims=0),
        helper.make_node("Div", ["mean", "white"], ["brightness"]),
        helper.make_node("Mul", ["brightness", "slope"], ["tilted"]),
        helper.make_node("Add", ["tilted", "offset"], ["fearless"]),
        helper.make_node("Mul", ["price", "fear"], ["feared"]),
        helper.make_node("Sub", ["fearless", "feared"], ["scores"]),
        helper.make_node("Add", ["h", "one"], ["next_h"]),
        helper.make_node("Add", ["c", "brightness"], ["next_c"]),
        helper.make_node("Mul", ["brightness", "weights"], ["seen"]),
        helper.make_node("MatMul", ["h", "drift"], ["remembered"]),
        helper.make_node("Add", ["seen", "remembered"], ["logits"]),
    ]
    inputs = [_tensor("frame", TensorProto.UINT8, (1, 84, 84, 3)), _tensor("price", shape=(1, 1))]
    inputs.append(_tensor("h", shape=STATE))
    outputs = [_tensor("scores", shape=(1, 5)), _tensor("logits", shape=(1, len(LABELS)))]
    outputs += [_tensor("next_h", shape=STATE), _tensor("next_c", shape=STATE)]
    return _model("policy", nodes, [*inputs, _tensor("c", shape=STATE)], outputs, constants)


def _branch_model() -> onnx.ModelProto:
    """Four convolutions on a uint8 frame of any size, pooled to logits."""
    random = np.random.default_rng(0)
    constants: dict[str, Any] = {"middle": np.float32(128), "scale": np.float32(1 / 64)}
    nodes = [
        helper.make_node("Cast", ["frame"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Sub", ["planes", "middle"], ["centered"]),
        helper.make_node("Mul", ["centered", "scale"], ["x0"]),
    ]
    widths = (3, 16, 32, 32, 32)
    for layer, (fan_in, fan_out) in enumerate(pairwise(widths)):
        weights = random.standard_normal((fan_out, fan_in, 3, 3)) / np.sqrt(fan_in * 9)
        constants[f"w{layer}"] = weights.astype(np.float32)
        nodes.append(
            helper.make_node(
                "Conv", [f"x{layer}", f"w{layer}"], [f"y{layer}"], pads=[1, 1, 1, 1], strides=[2, 2]
            )
        )
        nodes.append(helper.make_node("Relu", [f"y{layer}"], [f"x{layer + 1}"]))
    constants["head"] = random.standard_normal((widths[-1], len(LABELS))).astype(np.float32)
    nodes += [
        helper.make_node("GlobalAveragePool", [f"x{len(widths) - 1}"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("MatMul", ["features", "head"], ["logits"]),
    ]
    inputs = [_tensor("frame", TensorProto.UINT8, (1, "height", "width", 3))]
    return _model("net", nodes, inputs, [_tensor("logits", shape=(1, len(LABELS)))], constants)


def _tensor(name: str, kind: int = TensorProto.FLOAT, shape: tuple[Any, ...] = ()) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def _model(
    name: str,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: dict[str, Any],
) -> onnx.ModelProto:
    initializers = [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()]
    graph = helper.make_graph(nodes, name, inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model


def save_model(model: onnx.ModelProto, path: Path, weights: str | None = None) -> None:
    onnx.save(model, path, save_as_external_data=weights is not None, location=weights, size_threshold=0)


class _Noise(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        random = np.random.default_rng(1)
        self._frames = iter([random.integers(0, 256, (1, 112, 112, 3), np.uint8) for _ in range(4)])

    def get_next(self) -> dict[str, Any] | None:
        frame = next(self._frames, None)
        return None if frame is None else {"frame": frame}


def _quantize(source: Path, destination: Path) -> None:
    quantize_static(
        source,
        destination,
        _Noise(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
