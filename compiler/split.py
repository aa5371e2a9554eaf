"""Splitting a trained adaptive model into a policy graph and branch graphs, one of each per precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from torch import nn

from compiler.export.onnx import export_branch, export_policy, save
from compiler.targets import Target
from models.adaptive import POLICY, AdaptiveModel
from models.backbones.blocks import Backbone
from models.macs import count_macs
from models.policy import RecurrentPolicy
from runtimes.spec import ActionSpace, Graph, Group, Policy, Tensor, Variant

STATE = ("h", "c")


@dataclass(frozen=True)
class Split:
    """The graphs of a model in all of a target's precisions, and the variants that they form."""

    graphs: tuple[Graph, ...]
    variants: tuple[Variant, ...]


def split(
    name: str, model: AdaptiveModel, integer: Mapping[str, nn.Module], target: Target, folder: Path
) -> Split:
    """Write every graph of ``model`` into ``folder``.

    ``integer``: the frozen int8 networks by branch name and ``POLICY``; the float ones are the model's own.
    """
    graphs: list[Graph] = []
    variants: list[Variant] = []
    for precision in target.precisions:
        networks = integer if precision == "int8" else {POLICY: model.policy, **dict(model.branches.items())}
        activations = target.activations if precision == "int8" else None
        for part, network in networks.items():
            graph_name = f"{name}-{part}-{precision}"
            if part == POLICY:
                assert isinstance(network, RecurrentPolicy)
                view = model.views[model.policy_view]
                exported = export_policy(network, graph_name, view, activations)
            else:
                assert isinstance(network, Backbone)
                view = model.branch_view(part)
                exported = export_branch(network, graph_name, [view], activations)
            files = save(exported, folder / f"{graph_name}.onnx")
            macs = {view.name: _macs(model, part)}
            graphs.append(_graph(exported, [file.name for file in files], precision, part, macs))
        variants.append(_variant(name, model, precision))
    return Split(tuple(graphs), tuple(variants))


def _macs(model: AdaptiveModel, part: str) -> int:
    """Multiply-accumulates of one run, counted on the float network."""
    view = model.views[model.policy_view] if part == POLICY else model.branch_view(part)
    frame = torch.zeros(1, view.size, view.size, 3, dtype=torch.uint8)
    if part != POLICY:
        return count_macs(model.branches[part], lambda: model.branch_logits(part, frame))
    state = model.policy.initial_state(1)
    return count_macs(model.policy, lambda: model.policy.advance(model.embed(frame), state))


def _variant(name: str, model: AdaptiveModel, precision: str) -> Variant:
    groups = []
    for group in model.space.groups:
        options = [
            option.model_copy(update={"graph": f"{name}-{option.graph}-{precision}", "precision": precision})
            if option.graph
            else option
            for option in group.options
        ]
        groups.append(Group(name=group.name, options=tuple(options)))
    hidden = model.policy.lstm.hidden
    policy = Policy(
        graph=f"{name}-{POLICY}-{precision}",
        view=model.policy_view,
        state=dict.fromkeys(STATE, (1, hidden)),
    )
    return Variant(name=precision, policy=policy, action_space=ActionSpace(groups=tuple(groups)))


_DTYPES = {onnx.TensorProto.UINT8: "uint8", onnx.TensorProto.FLOAT: "float32"}


def _graph(
    model: onnx.ModelProto, files: list[str], precision: str, part: str, macs: dict[str, int]
) -> Graph:
    return Graph(
        name=model.graph.name,
        file=files[0],
        weight_files=tuple(files[1:]),
        precision=precision,
        role="policy" if part == POLICY else "branch",
        inputs={value.name: _tensor(value) for value in model.graph.input},
        outputs={value.name: _tensor(value) for value in model.graph.output},
        macs=macs,
    )


def _tensor(value: onnx.ValueInfoProto) -> Tensor:
    shape = [dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim]
    return Tensor.model_validate({"dtype": _DTYPES[value.type.tensor_type.elem_type], "shape": shape})
