"""What a lowered program runs where: its delegates, the operators outside of them, and layers in float."""

from __future__ import annotations

import importlib.resources
import json
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import executorch.backends.xnnpack.serialization as xnnpack_serialization
import torch
from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import XNNHeader
from executorch.exir._serialize._flatbuffer import _flatc_decompile
from torch.export import ExportedProgram
from torch.fx import Node

XNNPACK = "XnnpackBackend"
VULKAN = "VulkanBackend"

_LAYERS = ("convolution", "conv2d", "linear", "addmm", "mm", "conv_with_clamp")
_XNNPACK_LAYERS = ("XNNConv2d", "XNNDepthwiseConv2d", "XNNFullyConnected")
_XNNPACK_INTEGERS = ("xnn_datatype_qint8", "xnn_datatype_qcint8")


@dataclass(frozen=True)
class Lowering:
    """Of one method: how many delegates by backend, and operators outside of them by name.

    Turning frames into floats, outside by design, does not count.
    ``integer_layers`` multiply integer weights, ``float_layers`` floats: convolutions and linear layers, in
    delegates or outside.
    """

    delegates: dict[str, int]
    undelegated: dict[str, int]
    integer_layers: int
    float_layers: int


def lowering_of(program: ExportedProgram) -> Lowering:
    """What became of one method of an edge program."""
    delegates: Counter[str] = Counter()
    undelegated: Counter[str] = Counter()
    layers: Counter[bool] = Counter()
    for node in program.graph.nodes:
        if node.op == "get_attr":
            lowered = getattr(program.graph_module, str(node.target))
            delegates[lowered.backend_id] += 1
            layers += _layers(lowered)
        elif node.op == "call_function" and _computes(node):
            undelegated[_operator(node)] += 1
            layers[False] += _operator(node) in _LAYERS
    return Lowering(dict(delegates), dict(undelegated), layers[True], layers[False])


def _computes(node: Node) -> bool:
    """Whether a node outside of delegates is work that ``Lowering`` counts."""
    name = _operator(node)
    source = node.args[0] if node.args else None
    if isinstance(source, Node) and name == "dequantize_per_tensor":
        return source.meta["val"].dtype != torch.uint8
    return name not in ("getitem", "executorch_call_delegate", "alloc")


def _operator(node: Node) -> str:
    """The name of an operator without its namespace and overload, e.g. ``convolution``."""
    target: Any = node.target
    schema = getattr(target, "_schema", None)
    return str(schema.name).rpartition("::")[2] if schema is not None else str(target.__name__)


def _layers(lowered: Any) -> Counter[bool]:
    """Layers of a delegate, by whether their weights are integers."""
    if lowered.backend_id == XNNPACK:
        return _xnnpack_layers(decoded(bytes(lowered.processed_bytes)))
    graph = lowered.original_module.graph
    return Counter({False: sum(_operator(n) in _LAYERS for n in graph.nodes if n.op == "call_function")})


def _xnnpack_layers(graph: dict[str, Any]) -> Counter[bool]:
    """Layers of a decoded delegate, by whether their weights are integers: as it will run, not as meant."""
    values = [value["xvalue_union"] for value in graph["xvalues"]]
    tensors = [value.get("tensor_value", value) for value in values]
    datatypes = {tensor.get("id_out", 0): tensor.get("datatype") for tensor in tensors}
    layers: Counter[bool] = Counter()
    for node in graph["xnodes"]:
        if node["xnode_union_type"].replace("_", "") in _XNNPACK_LAYERS:
            filters = datatypes[node["xnode_union"].get("filter_id", 0)]
            layers[filters in _XNNPACK_INTEGERS] += 1
    return layers


def decoded(delegate: bytes) -> dict[str, Any]:
    """An XNNPACK delegate's graph as the runtime reads it: flatbuffer to JSON.

    Raises: ValueError for another format.
    """
    header = XNNHeader.from_bytes(delegate[: XNNHeader.EXPECTED_LENGTH])
    start = header.flatbuffer_offset
    schema = importlib.resources.files(xnnpack_serialization).joinpath("schema.fbs").read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        binary, description = Path(folder) / "graph.bin", Path(folder) / "schema.fbs"
        binary.write_bytes(delegate[start : start + header.flatbuffer_size])
        description.write_bytes(schema)
        _flatc_decompile(folder, str(description), str(binary), ["--raw-binary"])
        text = binary.with_suffix(".json").read_text()
    # Unlike Python, flatc writes infinities bare.
    text = text.replace(": inf", ": Infinity").replace(": -inf", ": -Infinity")
    graph: dict[str, Any] = json.loads(text)
    return graph
