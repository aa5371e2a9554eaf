"""ExecuTorch programs: one for each precision, whose methods are its networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import singledispatch
from itertools import groupby
from pathlib import Path

from torch import nn

from compiler.bundle_plan import PRECISIONS, Network
from compiler.export.executorch.exporter import Backend, Method, branch_method, policy_method, save_program
from compiler.export.export_result import Written, graph_of, integer_gate
from compiler.export.policies import policy_views
from compiler.targets import Target
from models.backbones.blocks import Backbone
from models.policies.policy import StepPolicy
from runtimes.spec import Store

_BACKENDS: dict[str, Backend] = {"XnnpackBackend": "xnnpack", "VulkanBackend": "vulkan"}


def write_graphs(
    networks: Sequence[Network], target: Target, folder: Path, stores: Mapping[str, Store]
) -> Written:
    """Write the networks of each precision into ``folder`` as one program; stores are not for this runtime.

    Methods of one program share equal weights. Those of different precisions have none in common.
    """
    ranked = sorted(networks, key=lambda network: -PRECISIONS[network.precision])
    written = [
        _write(list(group), precision, target, folder)
        for precision, group in groupby(ranked, key=lambda network: network.precision)
    ]
    order = [network.graph for network in networks]
    graphs = sorted((g for one in written for g in one.graphs), key=lambda graph: order.index(graph.name))
    return Written(tuple(graphs), tuple(gate for one in written for gate in one.gates))


def _write(networks: Sequence[Network], precision: str, target: Target, folder: Path) -> Written:
    backend = _BACKENDS[target.providers[0]]
    methods = {_method_name(network): _method(network, backend) for network in networks}
    program = save_program(methods, folder / f"{target.name}-{precision}.pte", backend)
    graphs = tuple(
        graph_of(
            network,
            target,
            file=program.file.name,
            method=_method_name(network),
            inputs=methods[_method_name(network)].inputs,
            outputs=methods[_method_name(network)].outputs,
        )
        for network in networks
    )
    if precision.startswith("fp"):
        return Written(graphs)
    lowered = [(network, program.methods[_method_name(network)]) for network in networks]
    gates = (integer_gate(network, one.integer_layers, one.float_layers) for network, one in lowered)
    return Written(graphs, tuple(gates))


def _method_name(network: Network) -> str:
    """The graph's name as ExecuTorch takes it."""
    return network.graph.replace("-", "_").replace(".", "_")


def _method(network: Network, backend: Backend) -> Method:
    # XNNPACK computes floats in single precision whatever a variant calls them.
    half_as_single = backend == "xnnpack" and network.precision == "fp16"
    return export_module(network.module, network, "fp32" if half_as_single else network.precision)


@singledispatch
def export_module(module: nn.Module, network: Network, precision: str) -> Method:
    """The method of a network's ``module``, by its type. Raises: NotImplementedError for an unknown one."""
    raise NotImplementedError(f"{network.graph}: no ExecuTorch exporter for {type(module).__name__}")


@export_module.register
def _(module: StepPolicy, network: Network, precision: str) -> Method:
    return policy_method(module, policy_views(network), list(network.heads.values()), precision)  # type: ignore[arg-type]


@export_module.register
def _(module: Backbone, network: Network, precision: str) -> Method:
    return branch_method(module, network.views, precision)  # type: ignore[arg-type]
