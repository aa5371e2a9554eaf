"""ONNX graphs: a file each, weights beside it or in a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import singledispatch
from pathlib import Path

import onnx
from torch import nn

from compiler.bundle_plan import Network
from compiler.export.export_result import Written, graph_of
from compiler.export.onnx.exporter import export_branch, export_policy, save
from compiler.export.onnx.stored import save_stored
from compiler.export.policies import policy_views
from compiler.targets import Target
from models.backbones.blocks import Backbone
from models.layers.quantization import ActivationFormat
from models.policies.policy import StepPolicy
from runtimes.spec import Graph, Store, Tensor


def write_graphs(
    networks: Sequence[Network], target: Target, folder: Path, stores: Mapping[str, Store]
) -> Written:
    """Write every network into ``folder``.

    Whether they are integer is judged later, by what the runtime makes of them.
    """
    return Written(tuple(_write(network, target, folder, stores) for network in networks))


def _write(network: Network, target: Target, folder: Path, stores: Mapping[str, Store]) -> Graph:
    activations = None if network.precision == "fp32" else target.activations
    exported = export_module(network.module, network, activations)
    path = folder / f"{network.graph}.onnx"
    if network.store is None:
        files = save(exported, path)
    else:
        files = (save_stored(exported, path, stores[network.store], network.stored_bits),)
    return graph_of(
        network,
        target,
        file=files[0].name,
        weight_files=tuple(file.name for file in files[1:]),
        store=network.store,
        bits=network.stored_bits if network.store else None,
        inputs={value.name: _tensor(value) for value in exported.graph.input},
        outputs={value.name: _tensor(value) for value in exported.graph.output},
    )


@singledispatch
def export_module(
    module: nn.Module, network: Network, activations: ActivationFormat | None
) -> onnx.ModelProto:
    """The ONNX graph of a ``module``, by its type. Raises: NotImplementedError for one unknown."""
    raise NotImplementedError(f"{network.graph}: no ONNX exporter for {type(module).__name__}")


@export_module.register
def _(module: StepPolicy, network: Network, activations: ActivationFormat | None) -> onnx.ModelProto:
    return export_policy(
        module, network.graph, policy_views(network), list(network.heads.values()), activations
    )


@export_module.register
def _(module: Backbone, network: Network, activations: ActivationFormat | None) -> onnx.ModelProto:
    return export_branch(module, network.graph, network.views, activations)


_DTYPES = {onnx.TensorProto.UINT8: "uint8", onnx.TensorProto.FLOAT: "float32"}


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    shape = [dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim]
    return Tensor.model_validate({"dtype": _DTYPES[value.type.tensor_type.elem_type], "shape": shape})
