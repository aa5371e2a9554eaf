"""Training a model as its kind needs, to what goes into the bundle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from compiler.bundle_plan import Contents, Network, Plan
from compiler.quantization.candidates import (
    Offers,
    Precisions,
    by_branch,
    make_offers,
    measure_offers,
    stores_of,
    validate,
)
from compiler.quantization.networks import integer_networks
from compiler.quantization.pareto import Precise, drop_worse, modelled_cost
from compiler.targets import Target
from compiler.training.stages import (
    States,
    Training,
    branch_states,
    fold_fusion_scales,
    refit_branches,
    train_branches,
    train_float,
    train_policy,
)
from models.macs import network_macs
from models.rollout.adaptive import POLICY, AdaptiveModel, BranchModel
from runtimes.spec import CostTable

MIXED = "mixed"
"""The variant whose options differ in precision."""

CostsOf = Callable[[Contents], CostTable]
"""Measures every graph of some contents."""


@dataclass(frozen=True)
class Trained:
    """What training ends in: contents, the precisions that were measured, and what was said of them."""

    contents: Contents
    measured: tuple[Precise, ...] = ()
    lines: tuple[str, ...] = ()
    policy_stage: str | None = None


def train_variants(training: Training, target: Target) -> Trained:
    """A variant per precision of the target, in each of which everything has that precision."""
    train_float(training)
    parts = (POLICY, *training.model.branches)
    integer = integer_networks(training, parts, target.activations, training.cache.split("train"))
    return Trained(variants(training, target, integer), policy_stage="joint")


def variants(training: Training, target: Target, integer: Mapping[str, nn.Module]) -> Contents:
    """The contents of a trained model and its ``integer`` networks: a plan per precision of the target."""
    model = training.adaptive.eval()
    floating = {POLICY: model.policy, **dict(model.branches.items())}
    plans = []
    for precision in target.precisions:
        networks = dict(integer if precision == "int8" else floating)
        policy = policy_network(training, networks.pop(POLICY), precision)
        branches = {
            part: Network(training.graph(part, precision), part, network, precision, model.views_of(part))
            for part, network in networks.items()
        }
        plans.append(Plan(precision, model, policy, branches))
    return Contents(tuple(plans))


def policy_network(training: Training, module: nn.Module, precision: str) -> Network:
    """The policy's network ready for export, at a precision."""
    model, graph = training.adaptive, training.graph(POLICY, precision)
    return Network(graph, POLICY, module, precision, model.views_of(POLICY), heads=model.heads)


def train_mixed(training: Training, target: Target, precisions: Precisions, costs_of: CostsOf) -> Trained:
    """One variant whose options are the branches at every precision that is worth its cost.

    With a policy, it is trained over just these; without, the caller chooses.
    """
    untrained = branch_states(training.model)
    train_branches(training)
    offered = make_offers(training, target, precisions, training.seen())
    table = costs_of(Contents((_plan(training.model, offered, None),), stores_of(offered)))
    measured = measure_offers(training, offered, table)
    kept, lines = (measured, []) if precisions.keep_all else drop_worse(measured)
    if isinstance(training.model, AdaptiveModel):
        return _with_policy(training, target, precisions, Tried(offered, kept, measured, lines), untrained)
    measured = validate(training, measured, offered)
    ranked = sorted(kept, key=lambda one: (-one.accuracy, one.ms))
    offered = {one.name: offered[one.name] for one in ranked}
    plan = _plan(training.model, offered, None)
    return Trained(Contents((plan,), stores_of(offered)), tuple(measured), tuple(lines))


class Tried(NamedTuple):
    """All that was made, what of it is kept, how all measured, and a line for each that was dropped."""

    made: Offers
    kept: Sequence[Precise]
    measured: Sequence[Precise]
    lines: Sequence[str]


def _with_policy(
    training: Training, target: Target, precisions: Precisions, tried: Tried, untrained: States
) -> Trained:
    """The policy over what is offered; then, if the recipe says so, all branches anew on all clips."""
    made, names = tried.made, [one.name for one in tried.kept]
    offered = {name: made[name] for name in names}
    model = training.adaptive.at_precisions(by_branch(offered))
    model.teacher = max(tried.kept, key=lambda one: (one.accuracy, one.bits)).name
    costs = _costs(model, tried.kept, target.precisions[0], modelled=precisions.modelled)
    stage = f"joint-{target.name}-{_digest(model, costs)}"
    mixed = replace(training, model=model)
    train_policy(mixed, costs, stage, frozen=True)
    if training.recipe.refit is not None:
        refit_branches(training, untrained)
        made = make_offers(training, target, precisions, training.cache.split("train"), "refit")
        offered = {name: made[name] for name in names}
        model.branches = training.adaptive.at_precisions(by_branch(offered)).branches
        fold_fusion_scales(mixed, stage)
    measured = validate(training, tried.measured, made)
    plan = _plan(training.model, offered, _policy(mixed, target, stage), model)
    return Trained(Contents((plan,), stores_of(offered)), tuple(measured), tuple(tried.lines), stage)


def _plan(
    model: BranchModel,
    offered: Offers,
    policy: Network | None,
    mixed: BranchModel | None = None,
) -> Plan:
    """The variant of these offers; without a policy the model's skips and the policy's head are left out."""
    mixed = mixed or model.branches_alone().at_precisions(by_branch(offered))
    return Plan(MIXED, mixed, policy, {name: offer.network for name, offer in offered.items()})


def _policy(mixed: Training, target: Target, stage: str) -> Network:
    """The policy in the target's first precision."""
    precision = target.precisions[0]
    if precision == "int8":
        clips = mixed.cache.split("train")
        module = integer_networks(mixed, [POLICY], target.activations, clips, stage)[POLICY]
    else:
        module = mixed.adaptive.policy
    return policy_network(mixed, module, precision)


def _costs(model: AdaptiveModel, kept: Sequence[Precise], precision: str, *, modelled: bool) -> Tensor:
    """Cost (A,) of each option: measured mJ, else ms, or modelled BitOps; zero for the policy's own heads.

    A long skip is worth the runs of the policy that it saves. The policy is not made yet: it is taken to cost
    per MAC what the branches do in its ``precision``, or in any if there are none.
    """
    if modelled:
        each = {one.name: one.macs * modelled_cost(one.bits) for one in kept}
    else:
        energies = {one.name: one.mj for one in kept if one.mj is not None}
        each = energies if len(energies) == len(kept) else {one.name: one.ms for one in kept}
    alike = [one for one in kept if one.precision == precision] or list(kept)
    per_mac = sum(each[one.name] for one in alike) / sum(one.macs for one in alike)
    policy = per_mac * network_macs(model.policy, model.views_of(POLICY))
    saved = model.space.saved_runs
    costs = [each.get(str(option.graph), 0.0) for option in model.space.options]
    return torch.tensor([cost - runs * policy for cost, runs in zip(costs, saved, strict=True)])


def _digest(model: AdaptiveModel, costs: Tensor) -> str:
    """Names the policy's stage by what it chooses among: with other options or costs it is another."""
    facts = [[option.name for option in model.space.options], costs.tolist()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]
