"""Making a network switchable between bit-widths: a rule per type of module, and what sets its scales."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from functools import singledispatch
from itertools import pairwise

import torch
from torch import nn

from models.backbones.blocks import Add, Backbone
from models.layers import quantization
from models.layers.nested_layers import (
    EIGHT_BITS,
    FLOAT,
    FOUR_BITS,
    STORED,
    NestedConv2d,
    NestedLinear,
    Rule,
    SwitchableNorm,
    SwitchableQuantizer,
    check_widths,
    set_width,
)
from models.layers.norm_statistics import match_moments, moments_before
from models.layers.quantization import ACTIVATIONS, QuantizedActivation, QuantizedAdd


def nest(
    network: Backbone,
    widths: Sequence[int],
    *,
    rule: Rule = "centered",
    low_activations: bool = False,
    deviations: float = FOUR_BITS,
) -> Backbone:
    """A copy of ``network`` that runs at any of ``widths``, each starting from its weights and norms.

    Its first convolution and its classifier are ``whole``. Activations have 8 bits at every width below
    float: fewer are no faster on any kernel that a device has, and cost accuracy (``low_activations`` gives
    them the weights' bits, as the papers do). ``deviations``: how far codes reach before training; infinite
    keeps the largest weights of a pretrained network, and with them its accuracy at 8 bits. Call
    ``calibrate`` before training from pretrained weights.

    Raises: ValueError for widths that are unknown.
    """
    widths, training = check_widths(widths), network.training
    network = copy.deepcopy(network)
    _absorb_signs(network)
    bits = (lambda width: width) if low_activations else (lambda width: STORED)
    Nester(widths, rule, bits, deviations).nest_children(network)
    set_width(network, widths[0])
    return network.train(training)


def _absorb_signs(network: nn.Module) -> None:
    """Turn channels of negative gain over, in the convolution: gains are positive, the function stays."""
    modules = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.BatchNorm2d)]
    for conv, norm in pairwise(modules):
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None
            sign = torch.where(norm.weight.data < 0, -1.0, 1.0)
            conv.weight.data *= sign.view(-1, 1, 1, 1)
            norm.running_mean *= sign
            norm.weight.data *= sign


class Nester:
    """Replaces a network's layers one by one, found by the order of siblings, by the rules of ``nested``.

    ``first``: whether the next convolution is the network's first.
    """

    def __init__(
        self, widths: Sequence[int], rule: Rule, bits: Callable[[int], int], deviations: float
    ) -> None:
        self.widths, self.rule, self.bits, self.deviations = widths, rule, bits, deviations
        self.first = True

    def nest_children(self, parent: nn.Module) -> None:
        """Replace every child of a module."""
        children = list(parent.named_children())
        for i, (name, child) in enumerate(children):
            following = children[i + 1][1] if i + 1 < len(children) else None
            setattr(parent, name, nested(child, self, isinstance(following, ACTIVATIONS)))

    def quantizer(self, *, signed: bool) -> SwitchableQuantizer:
        """A quantizer of activations at every width."""
        return SwitchableQuantizer(self.widths, signed=signed, bits=self.bits)


@singledispatch
def nested(module: nn.Module, nester: Nester, then_activation: bool) -> nn.Module:
    """The switchable counterpart of a module, by its type; others have their children replaced.

    ``then_activation``: whether an activation follows. Register a rule for a new type of module here.
    """
    nester.nest_children(module)
    return module


@nested.register
def _(module: nn.Conv2d, nester: Nester, then_activation: bool) -> nn.Module:
    whole, nester.first = nester.first, False
    clip = max(EIGHT_BITS, nester.deviations) if whole else nester.deviations
    return NestedConv2d(module, whole=whole, rule=nester.rule, deviations=clip)


@nested.register
def _(module: nn.Linear, nester: Nester, then_activation: bool) -> nn.Module:
    return NestedLinear(module, whole=True, rule=nester.rule)


@nested.register
def _(module: nn.BatchNorm2d, nester: Nester, then_activation: bool) -> nn.Module:
    norm = SwitchableNorm(module, nester.widths)
    return norm if then_activation else nn.Sequential(norm, nester.quantizer(signed=True))


@nested.register
def _(module: Add, nester: Nester, then_activation: bool) -> nn.Module:
    return module if then_activation else QuantizedAdd(nester.quantizer(signed=True))


@nested.register(nn.ReLU)
@nested.register(nn.ReLU6)
def _(module: nn.Module, nester: Nester, then_activation: bool) -> nn.Module:
    return QuantizedActivation(module, nester.quantizer(signed=False))


@nested.register
def _(module: nn.AdaptiveAvgPool2d, nester: Nester, then_activation: bool) -> nn.Module:
    return nn.Sequential(module, nester.quantizer(signed=False))


def calibrate(network: nn.Module, widths: Sequence[int], run: Callable[[], Iterator[None]]) -> None:
    """Set the activation scales of every width from what is seen while ``run()`` runs the network."""

    def at_every_width() -> Iterator[None]:
        for width in (width for width in widths if width != FLOAT):
            set_width(network, width)
            yield from run()

    quantization.calibrate(network, at_every_width())


def estimate_norms(network: nn.Module, widths: Sequence[int], run: Callable[[], Iterator[None]]) -> None:
    """Set the batch norms' statistics at every width but the highest, by what they see while ``run()`` runs.

    For norms whose statistics training will not touch: those of the float network do not fit 4 or 2 bits.
    Activations stay in float meanwhile: their quantizers are calibrated after this.
    """
    switchable = [module for module in network.modules() if isinstance(module, SwitchableNorm)]
    quantizers = [module for module in network.modules() if isinstance(module, SwitchableQuantizer)]
    network.eval()
    highest, *lower = sorted(widths, reverse=True)
    set_width(network, highest)
    wanted = moments_before([module.norm() for module in switchable], run())
    for width in lower:
        set_width(network, width)
        for quantizer in quantizers:
            quantizer.width = FLOAT
        match_moments([module.norm() for module in switchable], wanted, run())
