"""A small real LiteRT bundle: the policy that goes by brightness, and one network in fp32 and int8.

It is the bundle of tests/runtimes/bundles.py for another target. The policy is written operator by operator
and computes the same; the branches are a frozen network and its float original, with random weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from compiler.export.litert.exporter import export_branch
from compiler.export.litert.flatbuffer import FROM_UINT8, FlatbufferGraph, Quantization, Value
from models.backbones.blocks import Backbone
from models.backbones.registry import BACKBONES
from models.layers.quantization import calibrate, freeze, quantize
from runtimes.bundle import Bundle, write_bundle
from runtimes.spec import Graph, View
from tests.runtimes.bundles import LABELS, SIZES, STATE, manifest_fields

TARGET = "android"
_FRAME = (1, 84, 84, 3)


def build_litert_bundle(destination: Path, scratch: Path, **overrides: Any) -> Bundle:
    """Write the bundle; ``overrides`` replace fields of its manifest."""
    files = scratch / "files"
    files.mkdir(parents=True)
    (files / "policy.tflite").write_bytes(brightness_policy())
    views = [View(name=name, size=size) for name, size in SIZES.items()]
    exact, rounded = branch_networks()
    (files / "net-fp32.tflite").write_bytes(export_branch(exact, "net-fp32", views, "fp32"))
    (files / "net-int8.tflite").write_bytes(export_branch(rounded, "net-int8", views, "int8"))
    fields = manifest_fields()
    graphs = tuple(_for_litert(graph) for graph in fields["graphs"])
    return write_bundle(destination, files, fields | {"target": TARGET, "graphs": graphs} | overrides)


def _for_litert(graph: Graph) -> Graph:
    changes = {"target": TARGET, "runtime": "litert", "file": f"{graph.name}.tflite", "weight_files": ()}
    return graph.model_copy(update=changes)


def branch_networks() -> tuple[Backbone, Backbone]:
    """A float network, and the frozen one of integers."""
    torch.manual_seed(0)
    network = BACKBONES["resnet10-narrow"](len(LABELS)).eval()
    quantized = quantize(network, "uint8")

    def run() -> Any:
        for _ in range(2):
            quantized(torch.rand(2, 3, 84, 84) * 4 - 2)
            yield

    calibrate(quantized, run())
    frozen = freeze(quantized)
    assert isinstance(frozen, Backbone)
    return network, frozen


def brightness_policy() -> bytes:
    """See ``tests.runtimes.bundles.policy_model``, which this computes the same as."""
    graph = FlatbufferGraph("policy")
    frame = graph.input_tensor("frame", _FRAME, Quantization(1 / 255, 0))
    price = Value(graph.input_tensor("price", (1, 1)), (1, 1))
    h, c = (Value(graph.input_tensor(name, STATE), STATE) for name in ("h", "c"))
    pixels = Value(graph.dequantized(frame, "frame", _FRAME, FROM_UINT8), _FRAME)
    mean = graph.value("mean", (1,))
    graph.operator("MEAN", [pixels.tensor, graph.integers([1, 2, 3])], [mean.tensor], keepDims=False)
    brightness = graph.reshape(mean, (1, 1), "brightness")

    def constant(name: str, rows: Any) -> Value:
        array = np.array(rows, np.float32)
        return Value(graph.constant(name, array), array.shape)

    def compute(kind: str, left: Value, right: Value, name: str) -> Value:
        result = graph.value(name, (1, max(left.shape[-1], right.shape[-1])))
        graph.operator(kind, [left.tensor, right.tensor], [result.tensor])
        return result

    tilted = compute("MUL", brightness, constant("slope", [[2, 0, 0, 0, -2]]), "tilted")
    fearless = compute("ADD", tilted, constant("offset", [[-1, 0.2, -5, -5, 0.6]]), "fearless")
    feared = compute("MUL", price, constant("fear", [[0, 0, 1, 0, 0]]), "feared")
    seen = compute("MUL", brightness, constant("weights", [[1, -1, 2, 0, 0.5]]), "seen")
    drift = constant("drift", np.outer(np.arange(len(LABELS)), np.full(STATE[1], 0.01)))
    remembered = graph.value("remembered", (1, len(LABELS)))
    nothing = constant("nothing", np.zeros(len(LABELS)))
    inputs = [h.tensor, drift.tensor, nothing.tensor]
    graph.operator("FULLY_CONNECTED", inputs, [remembered.tensor], keepNumDims=True)
    graph.output("scores", compute("SUB", fearless, feared, "difference"))
    graph.output("logits", compute("ADD", seen, remembered, "sum"))
    graph.output("next_h", compute("ADD", h, constant("one", [[1]]), "counted"))
    graph.output("next_c", compute("ADD", c, brightness, "added"))
    return graph.bytes()
