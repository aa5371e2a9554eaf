"""Splitting trained models into policy graphs and branch graphs, each written once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from compiler.export.onnx import export_branch, export_policy, save
from compiler.export.stored import save_stored, write_store
from compiler.plan import Contents, Network, Plan
from compiler.targets import Target
from models.adaptive import POLICY
from models.backbones.blocks import Backbone
from models.macs import network_macs
from models.policy import StepPolicy
from runtimes.spec import ActionSpace, Graph, Option, Policy, Store, Tensor, Variant


@dataclass(frozen=True)
class Split:
    """The graphs of all plans, the variants that they form, and the stores that they share."""

    graphs: tuple[Graph, ...]
    variants: tuple[Variant, ...]
    stores: tuple[Store, ...]


def split(contents: Contents, target: Target, folder: Path) -> Split:
    """Write every graph of ``contents``, and every store, into ``folder``."""
    stores = {
        name: write_store(stored.codes, stored.whole, name, folder)
        for name, stored in contents.stores.items()
    }
    graphs: dict[str, Graph] = {}
    for plan in contents.plans:
        for network in plan.networks:
            if network.graph not in graphs:
                graphs[network.graph] = _write(network, target, folder, stores)
    return Split(
        tuple(graphs.values()), tuple(_variant(plan) for plan in contents.plans), tuple(stores.values())
    )


def _write(network: Network, target: Target, folder: Path, stores: Mapping[str, Store]) -> Graph:
    exported = _export(network, target)
    path = folder / f"{network.graph}.onnx"
    if network.store is None:
        files = save(exported, path)
    else:
        files = (save_stored(exported, path, stores[network.store], network.stored_bits),)
    return Graph(
        name=network.graph,
        file=files[0].name,
        weight_files=tuple(file.name for file in files[1:]),
        store=network.store,
        bits=network.stored_bits if network.store else None,
        precision=network.precision,
        role="policy" if network.part == POLICY else "branch",
        inputs={value.name: _tensor(value) for value in exported.graph.input},
        outputs={value.name: _tensor(value) for value in exported.graph.output},
        macs={network.view.name: network_macs(network.module, network.views)},
    )


def _export(network: Network, target: Target) -> onnx.ModelProto:
    activations = None if network.precision == "fp32" else target.activations
    if isinstance(network.module, StepPolicy):
        inputs = _policy_of(network).inputs
        views = {inputs[view.name]: view for view in network.views}
        heads = list(network.heads.values())
        return export_policy(network.module, network.graph, views, heads, activations)
    assert isinstance(network.module, Backbone)
    return export_branch(network.module, network.graph, network.views, activations)


def _variant(plan: Plan) -> Variant:
    space = plan.model.space
    groups = tuple(
        group.model_copy(update={"options": tuple(_option(option, plan) for option in group.options)})
        for group in space.groups
    )
    policy = _policy_of(plan.policy) if plan.policy else None
    return Variant(name=plan.name, policy=policy, action_space=ActionSpace(groups=groups))


def _option(option: Option, plan: Plan) -> Option:
    if option.graph is None:
        return option
    network = plan.policy if option.graph == POLICY else plan.branches[option.graph]
    assert network is not None, "only a model with a policy has its head as an option"
    return option.model_copy(update={"graph": network.graph, "precision": network.precision})


def _policy_of(network: Network) -> Policy:
    """What a manifest says of a policy."""
    assert isinstance(network.module, StepPolicy)
    state = network.module.initial_state(1)
    shapes = {name: tuple(part.shape) for name, part in zip(state._fields, state, strict=True)}
    views = tuple(view.name for view in network.views)
    return Policy(graph=network.graph, views=views, state=shapes, heads=dict(network.heads))


_DTYPES = {onnx.TensorProto.UINT8: "uint8", onnx.TensorProto.FLOAT: "float32"}


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    shape = [dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim]
    return Tensor.model_validate({"dtype": _DTYPES[value.type.tensor_type.elem_type], "shape": shape})
