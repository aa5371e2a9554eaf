"""Splitting trained models into policy graphs and branch graphs, each written once for every target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from compiler.bundle_plan import BundlePlan, VariantPlan
from compiler.export.export_result import Written
from compiler.export.onnx.stored import write_store
from compiler.export.policies import policy_of
from compiler.export.writers import write_graphs
from compiler.gate import Gate
from compiler.targets import Target
from models.rollout.branch_model import POLICY
from runtimes.spec import ActionSpace, Graph, Option, Store, Variant


@dataclass(frozen=True)
class Split:
    """The graphs of all plans, the variants that they form, their stores, and the gates of writing."""

    graphs: tuple[Graph, ...]
    variants: tuple[Variant, ...]
    stores: tuple[Store, ...]
    gates: tuple[Gate, ...] = ()

    def graphs_of(self, target: Target) -> tuple[Graph, ...]:
        """Those of one target."""
        return tuple(graph for graph in self.graphs if graph.target == target.name)


def split(bundle_plan: BundlePlan, targets: Sequence[Target], folder: Path) -> Split:
    """Write every graph of ``bundle_plan`` for every target, and every store, into ``folder``.

    The stores are ONNX Runtime's: other runtimes map no weights from files of ours.
    """
    stored = bundle_plan.stores if any(target.runtime == "onnx" for target in targets) else {}
    stores = {name: write_store(one.codes, one.whole, name, folder) for name, one in stored.items()}
    variants = tuple(_variant(plan) for plan in bundle_plan.variants)
    own, *others = (_write(bundle_plan, target, folder, stores) for target in targets)
    graphs = [*own.graphs, *(graph for written in others for graph in written.graphs)]
    gates = [*own.gates, *(gate for written in others for gate in written.gates)]
    return Split(tuple(graphs), variants, tuple(stores.values()), tuple(gates))


def write_again(parts: Split, bundle_plan: BundlePlan, targets: Sequence[Target], folder: Path) -> Split:
    """Put the own graphs of targets that others stood in for in place of these."""
    stores = {store.name: store for store in parts.stores}
    for target in targets:
        if target.stand_in is None:
            continue
        for file in {file for graph in parts.graphs_of(target) for file in (graph.file, *graph.weight_files)}:
            (folder / file).unlink()
        others = [graph for graph in parts.graphs if graph.target != target.name]
        parts = replace(parts, graphs=(*others, *_write(bundle_plan, target, folder, stores).graphs))
    return parts


def _write(bundle_plan: BundlePlan, target: Target, folder: Path, stores: Mapping[str, Store]) -> Written:
    networks = {network.graph: network for plan in bundle_plan.variants for network in plan.networks}
    taken = [network for network in networks.values() if network.precision in target.known_precisions]
    written = write_graphs(taken, target, folder, stores)
    return replace(written, gates=tuple(replace(g, name=f"{target.name}: {g.name}") for g in written.gates))


def _variant(plan: VariantPlan) -> Variant:
    space = plan.model.space
    groups = tuple(
        group.model_copy(update={"options": tuple(_option(option, plan) for option in group.options)})
        for group in space.groups
    )
    policy = policy_of(plan.policy) if plan.policy else None
    return Variant(name=plan.name, policy=policy, action_space=ActionSpace(groups=groups))


def _option(option: Option, plan: VariantPlan) -> Option:
    if option.graph is None:
        return option
    network = plan.policy if option.graph == POLICY else plan.branches[option.graph]
    assert network is not None, "only a model with a policy has its head as an option"
    return option.model_copy(update={"graph": network.graph, "precision": network.precision})
