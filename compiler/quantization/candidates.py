"""Branches at several precisions, which a bundle may have: made and measured."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import torch
from torch.utils.data import DataLoader

from compiler.bundle_plan import PRECISIONS, Network, StoredCodes
from compiler.quantization.networks import (
    at_precisions,
    codes_of,
    integer_networks,
    multibit_network,
)
from compiler.quantization.pareto import CandidateCost
from compiler.targets import Target
from compiler.training.training import Training
from models.backbones.blocks import Backbone
from models.layers.nested_layers import STORED
from models.macs import network_macs
from models.rollout.branch_model import pixels
from models.training_plan import TrainingPlan, TrainWidths
from runtimes.spec import CostTable


@dataclass(frozen=True)
class PrecisionSet:
    """Which precisions are tried, and what becomes of those that cost no less than a more accurate one.

    ``modeled``: the policy's loss counts modeled BitOps (relative to int8) instead of measured costs.
    """

    names: tuple[str, ...]
    keep_all: bool = False
    modeled: bool = False


@dataclass(frozen=True)
class Candidate:
    """A branch at a precision, and the codes it shares with other precisions, if it does."""

    network: Network
    codes: StoredCodes | None


Candidates = Mapping[str, Candidate]
"""By the name that options have for them."""


def make_candidates(
    training: Training, target: Target, precisions: PrecisionSet, clips: Sequence[int], after: str = ""
) -> dict[str, Candidate]:
    """Every branch at every precision, trained on ``clips``, by the name that options have for it.

    One weight set of each branch has all precisions if the method declares such a stage; else int8 is
    trained apart. ``after`` names the stage that the float branches come from, if there are several such.
    """
    candidates: dict[str, Candidate] = {}
    branches, stage = list(training.model.branches), widths_stage(training.plan, precisions.names)
    if stage is None:
        integer = integer_networks(training, branches, target.activations, clips, after)
    for branch in branches:
        codes: StoredCodes | None = None
        if stage is not None:
            trained = multibit_network(training, branch, stage, clips, after)
            networks = at_precisions(trained, precisions.names, target.activations)
            codes = codes_of(trained)
        else:
            both = {"fp32": training.model.backbones()[branch], "int8": integer[branch]}
            networks = {name: _backbone(both[name]) for name in precisions.names}
        for name, module in networks.items():
            shares = codes if name != "fp32" else None
            store = f"{training.name}-{branch}" if shares else None
            view = training.model.view_of(branch)
            network = Network(training.graph(branch, name), branch, module, name, (view,), store)
            candidates[f"{branch}-{name}"] = Candidate(network, shares)
    return candidates


def widths_stage(plan: TrainingPlan, names: Sequence[str]) -> TrainWidths | None:
    """The stage that gives one weight set just these precisions; None if int8 is trained apart."""
    stage = plan.find(TrainWidths)
    return None if stage is None else replace(stage, widths=tuple(PRECISIONS[name] for name in names))


def _backbone(module: object) -> Backbone:
    assert isinstance(module, Backbone)
    return module


def networks_of(candidates: Candidates) -> list[Network]:
    """The network of each candidate."""
    return [candidate.network for candidate in candidates.values()]


def by_branch(candidates: Candidates) -> dict[str, dict[str, Backbone]]:
    """The networks by branch and precision."""
    branches: dict[str, dict[str, Backbone]] = {}
    for network in networks_of(candidates):
        branches.setdefault(network.part, {})[network.precision] = _backbone(network.module)
    return branches


def stores_of(candidates: Candidates) -> dict[str, StoredCodes]:
    """The codes that candidates share, by the name of their store."""
    return {
        candidate.network.store: candidate.codes
        for candidate in candidates.values()
        if candidate.network.store is not None and candidate.codes is not None
    }


def measure_candidates(training: Training, candidates: Candidates, table: CostTable) -> list[CandidateCost]:
    """Accuracy and cost of each candidate, at the costs of a table."""
    measured = [
        _measured(training, one.network, one.codes.whole if one.codes else (), table)
        for one in candidates.values()
    ]
    return _share_costs(measured)


def _measured(
    training: Training, network: Network, whole: Collection[str], table: CostTable
) -> CandidateCost:
    view = network.view
    clips = training.clips("held out")
    return CandidateCost(
        branch=network.part,
        precision=network.precision,
        bits=network.bits,
        accuracy=_accuracy(training, network, clips, frames=4),
        clips=len(clips),
        ms=table.graph_ms(network.graph, view.name),
        megabytes=_megabytes(network, whole),
        macs=network_macs(network.module, network.views),
        mj=table.graph_mj(network.graph, view.name),
    )


def validate(
    training: Training, measured: Sequence[CandidateCost], candidates: Candidates
) -> list[CandidateCost]:
    """The same measurements, with the accuracy of the networks of ``candidates`` on the validation clips."""
    val = training.cache.split("val")
    return [
        replace(one, validation=_accuracy(training, candidates[one.name].network, val, frames=0))
        for one in measured
    ]


def _share_costs(measured: Sequence[CandidateCost]) -> list[CandidateCost]:
    """Integer precisions of one branch run the same kernels on the same shapes: their costs are one."""
    integer: dict[str, list[CandidateCost]] = {}
    for one in measured:
        if one.bits <= STORED:
            integer.setdefault(one.branch, []).append(one)

    def shared(one: CandidateCost) -> CandidateCost:
        alike = integer[one.branch]
        energies = [other.mj for other in alike if other.mj is not None]
        ms = median(other.ms for other in alike)
        return replace(one, ms=ms, mj=median(energies) if len(energies) == len(alike) else None)

    return [shared(one) if one.bits <= STORED else one for one in measured]


def _megabytes(network: Network, whole: Collection[str]) -> float:
    """What a device needs to have: the planes of its weights (4 and 2 bits share one), biases in 32 bits.

    ``whole`` layers have 8 bits at every width below float.
    """
    bits = 0
    for name, parameter in network.module.named_parameters():
        layer, _, kind = name.rpartition(".")
        if network.precision == "fp32" or kind != "weight":
            bits += 32 * parameter.numel()
        else:
            bits += parameter.numel() * (8 if layer in whole else max(network.bits, 4))
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
