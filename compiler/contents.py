"""Training a model as its kind needs, to what goes into the bundle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from compiler.dropping import Precise, drop_worse, modelled_cost
from compiler.plan import PRECISIONS, Contents, Network, Plan, StoredCodes
from compiler.precisions import MultiBit, at_precisions, codes_of, integer_networks, multibit_network
from compiler.stages import Training, finetune_branches, option_macs, train_branches, train_policy
from compiler.targets import Target
from models.adaptive import POLICY, AdaptiveModel, BranchModel, pixels
from models.backbones.blocks import Backbone
from models.macs import network_macs
from models.nested import STORED
from runtimes.spec import CostTable

MIXED = "mixed"
"""The variant whose options differ in precision."""

CostsOf = Callable[[Contents], CostTable]
"""Measures every graph of some contents."""


@dataclass(frozen=True)
class Precisions:
    """Which precisions are tried, and what becomes of those not worth their cost.

    ``multibit``: how one weight set gets all widths; without, int8 is trained apart. ``modelled``: the loss
    counts modelled BitOps instead of measured ms.
    """

    names: tuple[str, ...]
    multibit: MultiBit | None = None
    keep_all: bool = False
    modelled: bool = False


@dataclass(frozen=True)
class Trained:
    """What training ends in: contents, the precisions that were measured, and what was said of them."""

    contents: Contents
    measured: tuple[Precise, ...] = ()
    lines: tuple[str, ...] = ()
    policy_stage: str | None = None


def train_variants(training: Training, target: Target) -> Trained:
    """A variant per precision of the target, in each of which everything has that precision."""
    costs = option_macs(training.model)
    train_branches(training)
    train_policy(training, costs)
    finetune_branches(training, costs)
    parts = (POLICY, *training.model.branches)
    integer = integer_networks(training, parts, target.activations, training.cache.split("train"))
    return Trained(variants(training, target, integer), policy_stage="joint")


def variants(training: Training, target: Target, integer: Mapping[str, nn.Module]) -> Contents:
    """The contents of a trained model and its ``integer`` networks: a plan per precision of the target."""
    model = training.adaptive.eval()
    floating = {POLICY: model.policy, **dict(model.branches.items())}
    plans = []
    for precision in target.precisions:
        networks = integer if precision == "int8" else floating
        named = {
            part: Network(training.graph(part, precision), part, network, precision, model.view_of(part))
            for part, network in networks.items()
        }
        plans.append(Plan(precision, model, named.pop(POLICY), named))
    return Contents(tuple(plans))


def train_mixed(training: Training, target: Target, precisions: Precisions, costs_of: CostsOf) -> Trained:
    """One variant whose options are the branches at every precision that is worth its cost.

    With a policy, it is trained over just these; without, the caller chooses.
    """
    train_branches(training)
    offered = _offered(training, target, precisions)
    table = costs_of(Contents((_plan(training.model, offered, None),), _stores(offered)))
    measured = _share_times([_measure(training, network, table) for network in _networks(offered)])
    kept, lines = (measured, []) if precisions.keep_all else drop_worse(measured)
    offered = {one.name: offered[one.name] for one in kept}
    if not isinstance(training.model, AdaptiveModel):
        ranked = sorted(kept, key=lambda one: (-one.accuracy, one.ms))
        plan = _plan(training.model, {one.name: offered[one.name] for one in ranked}, None)
        return Trained(Contents((plan,), _stores(offered)), tuple(measured), tuple(lines))
    model = training.model.at_precisions(_by_branch(offered))
    assert isinstance(model, AdaptiveModel)
    model.teacher = max(kept, key=lambda one: (one.accuracy, one.bits)).name
    mixed = replace(training, model=model)
    costs = _costs(model, kept, modelled=precisions.modelled)
    stage = f"joint-{_digest(model, costs)}"
    train_policy(mixed, costs, stage, frozen=True)
    policy = _policy(mixed, target, stage)
    plan = _plan(training.model, offered, policy, model)
    return Trained(Contents((plan,), _stores(offered)), tuple(measured), tuple(lines), stage)


@dataclass(frozen=True)
class _Offer:
    """A branch at a precision, and the codes it shares with other precisions, if it does."""

    network: Network
    codes: StoredCodes | None


def _offered(training: Training, target: Target, precisions: Precisions) -> dict[str, _Offer]:
    """Every branch at every precision, by the name that options have for it."""
    offers: dict[str, _Offer] = {}
    branches = list(training.model.branches)
    if precisions.multibit is None:
        integer = integer_networks(training, branches, target.activations, training.seen())
    for branch in branches:
        codes: StoredCodes | None = None
        if precisions.multibit is not None:
            trained = multibit_network(training, branch, precisions.multibit)
            networks = at_precisions(trained, precisions.names, target.activations)
            codes = codes_of(trained)
        else:
            both = {"fp32": training.model.backbones()[branch], "int8": integer[branch]}
            networks = {name: _backbone(both[name]) for name in precisions.names}
        for name, module in networks.items():
            shares = codes if name != "fp32" else None
            store = f"{training.name}-{branch}" if shares else None
            view = training.model.view_of(branch)
            network = Network(training.graph(branch, name), branch, module, name, view, store)
            offers[f"{branch}-{name}"] = _Offer(network, shares)
    return offers


def _backbone(module: object) -> Backbone:
    assert isinstance(module, Backbone)
    return module


def _networks(offered: Mapping[str, _Offer]) -> list[Network]:
    return [offer.network for offer in offered.values()]


def _by_branch(offered: Mapping[str, _Offer]) -> dict[str, dict[str, Backbone]]:
    branches: dict[str, dict[str, Backbone]] = {}
    for network in _networks(offered):
        branches.setdefault(network.part, {})[network.precision] = _backbone(network.module)
    return branches


def _stores(offered: Mapping[str, _Offer]) -> dict[str, StoredCodes]:
    return {
        offer.network.store: offer.codes
        for offer in offered.values()
        if offer.network.store is not None and offer.codes is not None
    }


def _plan(
    model: BranchModel,
    offered: Mapping[str, _Offer],
    policy: Network | None,
    mixed: BranchModel | None = None,
) -> Plan:
    """The variant of these offers; without a policy the model's skips and the policy's head are left out."""
    mixed = mixed or model.branches_alone().at_precisions(_by_branch(offered))
    return Plan(MIXED, mixed, policy, {name: offer.network for name, offer in offered.items()})


def _policy(mixed: Training, target: Target, stage: str) -> Network:
    """The policy in the target's first precision."""
    precision = target.precisions[0]
    if precision == "int8":
        clips = mixed.cache.split("train")
        module = integer_networks(mixed, [POLICY], target.activations, clips, stage)[POLICY]
    else:
        module = mixed.adaptive.policy
    view = mixed.model.view_of(POLICY)
    return Network(mixed.graph(POLICY, precision), POLICY, module, precision, view)


def _measure(training: Training, network: Network, table: CostTable) -> Precise:
    view = network.view
    clips = training.held_out() or training.cache.split("train")
    return Precise(
        branch=network.part,
        precision=network.precision,
        bits=network.bits,
        accuracy=_accuracy(training, network, clips, frames=4),
        clips=len(clips),
        validation=_accuracy(training, network, training.cache.split("val"), frames=0),
        ms=table.graph_ms(network.graph, view.name),
        megabytes=_megabytes(network),
        macs=network_macs(network.module, view),
    )


def _share_times(measured: Sequence[Precise]) -> list[Precise]:
    """Integer precisions of one branch run the same kernels on the same shapes: their times are one."""
    times: dict[str, list[float]] = {}
    for one in measured:
        if one.bits <= STORED:
            times.setdefault(one.branch, []).append(one.ms)
    return [replace(o, ms=median(times[o.branch])) if o.bits <= STORED else o for o in measured]


def _megabytes(network: Network) -> float:
    """What its weights take where only they are stored, packed: weights at their bits, biases in 32."""
    bits = 0
    for name, parameter in network.module.named_parameters():
        weight = name.endswith("weight") and parameter.dim() > 1
        bits += parameter.numel() * (network.bits if weight else 32)
    return bits / 8e6


def _accuracy(training: Training, network: Network, clips: Sequence[int], frames: int) -> float:
    """Share of right clips by the mean logits of so many frames, 0 for every step."""
    view = network.view
    drawn = training.frames(view.name, frames, clips, train=False)
    right = 0
    network.module.eval()
    with torch.no_grad():
        for batch, targets in DataLoader(drawn, 4):
            logits = network.module(pixels(batch.flatten(0, 1), view)).view(*batch.shape[:2], -1)
            right += int((logits.mean(1).argmax(1) == targets).sum())
    return right / len(clips)


def _costs(model: AdaptiveModel, kept: Sequence[Precise], *, modelled: bool) -> Tensor:
    """Cost (A,) of each option: measured ms, or modelled BitOps; zero for the head and for skips."""
    by_graph = {one.name: one for one in kept}
    costs = []
    for option in model.space.options:
        one = by_graph.get(str(option.graph))
        costs.append(0.0 if one is None else one.macs * modelled_cost(one.bits) if modelled else one.ms)
    return torch.tensor(costs)


def _digest(model: AdaptiveModel, costs: Tensor) -> str:
    """Names the policy's stage by what it chooses among: another target's, or more options, are another's."""
    facts = [[option.name for option in model.space.options], costs.tolist()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:8]


def multibit_of(preset: Any, names: Sequence[str]) -> MultiBit | None:
    """How a preset's one weight set gets the widths of some precisions; None if it trains int8 apart."""
    widths = tuple(PRECISIONS[name] for name in names)
    transfer = getattr(preset, "transfer", None)
    if transfer is None:
        return None
    return MultiBit(widths, transfer, preset.rule, preset.low_activations)
