"""LiteRT graphs: a .tflite file each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import singledispatch
from pathlib import Path

from torch import nn

from compiler.bundle_plan import Network
from compiler.export.export_result import Written, graph_of, integer_gate
from compiler.export.litert.exporter import WIDENED, export_branch, export_policy, float_layers
from compiler.export.policies import policy_views
from compiler.export.tensors import input_tensors, output_tensors
from compiler.gate import Gate
from compiler.targets import Target
from models.backbones.blocks import Backbone
from models.policies.policy import StepPolicy
from runtimes.spec import Graph, Store


def write_graphs(
    networks: Sequence[Network], target: Target, folder: Path, stores: Mapping[str, Store]
) -> Written:
    """Write every network into ``folder``; stores are not for this runtime, which maps its own files."""
    written = [_write(network, target, folder) for network in networks]
    gates = [gate for _, gate in written if gate is not None]
    return Written(tuple(graph for graph, _ in written), tuple(gates))


def _write(network: Network, target: Target, folder: Path) -> tuple[Graph, Gate | None]:
    path = folder / f"{network.graph}.tflite"
    path.write_bytes(export_module(network.module, network))
    inputs, outputs = input_tensors(network), output_tensors(network)
    graph = graph_of(network, target, file=path.name, inputs=inputs, outputs=outputs)
    if network.precision.startswith("fp"):
        return graph, None
    layers = sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in network.module.modules())
    floating = sum(count for kind, count in float_layers(path).items() if kind != WIDENED)
    return graph, integer_gate(network, layers - floating, floating)


@singledispatch
def export_module(module: nn.Module, network: Network) -> bytes:
    """The LiteRT graph of a ``module``, by its type. Raises: NotImplementedError for one unknown."""
    raise NotImplementedError(f"{network.graph}: no LiteRT exporter for {type(module).__name__}")


@export_module.register
def _(module: StepPolicy, network: Network) -> bytes:
    heads = list(network.heads.values())
    return export_policy(module, network.graph, policy_views(network), heads, network.precision)


@export_module.register
def _(module: Backbone, network: Network) -> bytes:
    return export_branch(module, network.graph, network.views, network.precision)
