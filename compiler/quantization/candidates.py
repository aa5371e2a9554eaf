"""Branches at several precisions, as a bundle may offer them: made and measured."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch
from torch.utils.data import DataLoader

from compiler.bundle_plan import PRECISIONS, Network, StoredCodes
from compiler.quantization.networks import (
    MultiBit,
    at_precisions,
    codes_of,
    integer_networks,
    multibit_network,
)
from compiler.quantization.pareto import Precise
from compiler.targets import Target
from compiler.training.stages import Training
from models.backbones.blocks import Backbone
from models.layers.nested import STORED
from models.macs import network_macs
from models.rollout.adaptive import pixels
from runtimes.spec import CostTable


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
class Offer:
    """A branch at a precision, and the codes it shares with other precisions, if it does."""

    network: Network
    codes: StoredCodes | None


Offers = Mapping[str, Offer]
"""By the name that options have for them."""


def make_offers(
    training: Training, target: Target, precisions: Precisions, clips: Sequence[int], after: str = ""
) -> dict[str, Offer]:
    """Every branch at every precision, trained on ``clips``, by the name that options have for it.

    ``after`` names the stage that the float branches come from, if there are several such.
    """
    offers: dict[str, Offer] = {}
    branches = list(training.model.branches)
    if precisions.multibit is None:
        integer = integer_networks(training, branches, target.activations, clips, after)
    for branch in branches:
        codes: StoredCodes | None = None
        if precisions.multibit is not None:
            trained = multibit_network(training, branch, precisions.multibit, clips, after)
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
            offers[f"{branch}-{name}"] = Offer(network, shares)
    return offers


def _backbone(module: object) -> Backbone:
    assert isinstance(module, Backbone)
    return module


def networks_of(offered: Offers) -> list[Network]:
    """The network of each offer."""
    return [offer.network for offer in offered.values()]


def by_branch(offered: Offers) -> dict[str, dict[str, Backbone]]:
    """The networks by branch and precision."""
    branches: dict[str, dict[str, Backbone]] = {}
    for network in networks_of(offered):
        branches.setdefault(network.part, {})[network.precision] = _backbone(network.module)
    return branches


def stores_of(offered: Offers) -> dict[str, StoredCodes]:
    """The codes that offers share, by the name of their store."""
    return {
        offer.network.store: offer.codes
        for offer in offered.values()
        if offer.network.store is not None and offer.codes is not None
    }


def measure_offers(training: Training, offered: Offers, table: CostTable) -> list[Precise]:
    """What each offer is worth, at the costs of a table."""
    measured = [
        _measured(training, offer.network, offer.codes.whole if offer.codes else (), table)
        for offer in offered.values()
    ]
    return _share_costs(measured)


def _measured(training: Training, network: Network, whole: Collection[str], table: CostTable) -> Precise:
    view = network.view
    clips = training.held_out() or training.cache.split("train")
    return Precise(
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


def validate(training: Training, measured: Sequence[Precise], offered: Offers) -> list[Precise]:
    """The same measurements, with the accuracy of the networks of ``offered`` on the validation clips."""
    val = training.cache.split("val")
    return [
        replace(one, validation=_accuracy(training, offered[one.name].network, val, frames=0))
        for one in measured
    ]


def _share_costs(measured: Sequence[Precise]) -> list[Precise]:
    """Integer precisions of one branch run the same kernels on the same shapes: their costs are one."""
    integer: dict[str, list[Precise]] = {}
    for one in measured:
        if one.bits <= STORED:
            integer.setdefault(one.branch, []).append(one)

    def shared(one: Precise) -> Precise:
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


def multibit_of(preset: Any, names: Sequence[str]) -> MultiBit | None:
    """How a preset's one weight set gets the widths of some precisions; None if it trains int8 apart."""
    widths = tuple(PRECISIONS[name] for name in names)
    transfer = getattr(preset, "transfer", None)
    if transfer is None:
        return None
    return MultiBit(widths, transfer, preset.rule, preset.low_activations, preset.deviations)
