"""int8 quantisation-aware training on brevitas' quantisers, and the frozen integer network it ends in.

``quantise`` folds every batch norm and puts a quantiser behind everything that computes, found by the
order of siblings: a runtime fuses a layer only if its input, weights, bias and output are all quantised.
``freeze`` turns the trained result into plain layers with fixed scales: what the exporter writes down.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable
from functools import singledispatch
from math import inf
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.backbones.blocks import Add, Boundary

with warnings.catch_warnings():
    # On import it complains of an optional package that nothing here uses.
    warnings.filterwarnings("ignore", message="fast_hadamard_transform")
    from brevitas import nn as qnn
    from brevitas.graph.calibrate import calibration_mode
    from brevitas.quant import (
        Int8ActPerTensorFloat,
        Int8WeightPerChannelFloat,
        ShiftedUint8ActPerTensorFloat,
        Uint8ActPerTensorFloat,
    )

ActivationFormat = Literal["uint8", "int8"]
"""uint8: asymmetric, what x86 and ARM kernels fuse. int8: symmetric, what TensorRT takes."""

ACTIVATIONS = nn.ReLU | nn.ReLU6
"""Activations that the quantiser of their output takes the place of."""


def quantise(network: nn.Module, activations: ActivationFormat) -> nn.Module:
    """A copy of ``network`` for quantisation-aware training: batch norms folded, quantisers everywhere.

    Weights are int8 per output channel, symmetric in [-127, 127]. The input is taken as it is: pixels are
    integers already. Call ``calibrate`` before training it.
    """
    network = copy.deepcopy(network).eval()
    _quantise_children(network, activations)
    return network


def calibrate(network: nn.Module, run: Iterable[None]) -> None:
    """Set the activation scales from the statistics seen while ``run`` is exhausted (it runs the network)."""
    network.eval()
    with torch.no_grad(), calibration_mode(network):
        for _ in run:
            pass


def _quantise_children(parent: nn.Module, activations: ActivationFormat) -> None:
    children = list(parent.named_children())
    for i, (name, child) in enumerate(children):
        following = children[i + 1][1] if i + 1 < len(children) else None
        if isinstance(child, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
            child = fuse_conv_bn_eval(child, following)
        setattr(parent, name, quantised(child, isinstance(following, ACTIVATIONS), activations))


@singledispatch
def quantised(module: nn.Module, then_activation: bool, activations: ActivationFormat) -> nn.Module:
    """The quantised counterpart of a module, by its type; others have their children quantised.

    ``then_activation``: whether an activation follows. Register a rule for a new type of module here.
    """
    _quantise_children(module, activations)
    return module


@quantised.register
def _(module: nn.Conv2d, then_activation: bool, activations: ActivationFormat) -> nn.Module:
    return _quantised_conv(module)


@quantised.register
def _(module: nn.Linear, then_activation: bool, activations: ActivationFormat) -> nn.Module:
    return _quantised_linear(module)


@quantised.register
def _(module: nn.BatchNorm2d, then_activation: bool, activations: ActivationFormat) -> nn.Module:
    # Folded into the convolution before it.
    return nn.Identity() if then_activation else _signed(activations)


@quantised.register
def _(module: Add, then_activation: bool, activations: ActivationFormat) -> nn.Module:
    return module if then_activation else QuantisedAdd(_signed(activations))


@quantised.register(nn.ReLU)
@quantised.register(nn.ReLU6)
def _(module: nn.Module, then_activation: bool, activations: ActivationFormat) -> nn.Module:
    return QuantisedActivation(module, _unsigned(activations))


@quantised.register
def _(module: nn.AdaptiveAvgPool2d, then_activation: bool, activations: ActivationFormat) -> nn.Module:
    return nn.Sequential(module, _unsigned(activations))


@quantised.register
def _(module: Boundary, then_activation: bool, activations: ActivationFormat) -> nn.Module:
    return _signed(activations)


def _unsigned(activations: ActivationFormat) -> nn.Module:
    """A quantiser of what is never negative."""
    quantiser = Uint8ActPerTensorFloat if activations == "uint8" else Int8ActPerTensorFloat
    return qnn.QuantIdentity(act_quant=quantiser)


def _signed(activations: ActivationFormat) -> nn.Module:
    quantiser = ShiftedUint8ActPerTensorFloat if activations == "uint8" else Int8ActPerTensorFloat
    return qnn.QuantIdentity(act_quant=quantiser)


def _quantised_conv(conv: nn.Conv2d) -> nn.Module:
    quantised = qnn.QuantConv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        stride=conv.stride,
        padding=conv.padding,
        groups=conv.groups,
        bias=conv.bias is not None,
        weight_quant=Int8WeightPerChannelFloat,
    )
    quantised.load_state_dict(conv.state_dict(), strict=False)
    return quantised


def _quantised_linear(linear: nn.Linear) -> nn.Module:
    bias = linear.bias is not None
    quantised = qnn.QuantLinear(
        linear.in_features, linear.out_features, bias=bias, weight_quant=Int8WeightPerChannelFloat
    )
    quantised.load_state_dict(linear.state_dict(), strict=False)
    return quantised


class QuantisedAdd(Add):
    """An addition whose sum is quantised."""

    def __init__(self, quantiser: nn.Module) -> None:
        super().__init__()
        self.quantiser = quantiser

    def forward(self, branch: Tensor, shortcut: Tensor) -> Tensor:
        return self.quantiser(branch + shortcut)


class QuantisedActivation(nn.Sequential):
    """ReLU or ReLU6 and the quantiser of its output."""

    def __init__(self, activation: nn.Module, quantiser: nn.Module) -> None:
        super().__init__(activation, quantiser)


class FakeQuantise(nn.Module):
    """A fixed quantiser: rounds to ``(q - zero_point) * scale`` with q in [low, high]. Exports as Q/DQ."""

    def __init__(self, scale: float, zero_point: int, low: int, high: int) -> None:
        super().__init__()
        self.scale, self.zero_point, self.low, self.high = scale, zero_point, low, high

    def forward(self, x: Tensor) -> Tensor:
        return torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero_point, self.low, self.high)


def freeze(network: nn.Module) -> nn.Module:
    """A copy of a trained quantised network in plain layers, each number the one a device computes with.

    Weights hold ``codes * scales`` with ``codes`` int8 and ``scales`` (out,) kept as buffers beside them.
    """
    network = copy.deepcopy(network).eval()
    _freeze_children(network)
    return network


def _freeze_children(parent: nn.Module) -> None:
    for name, child in parent.named_children():
        setattr(parent, name, frozen(child))


@singledispatch
def frozen(module: nn.Module) -> nn.Module:
    """The plain counterpart of a quantised module, by its type; others have their children frozen."""
    _freeze_children(module)
    return module


def _frozen_layer(layer: Any) -> nn.Module:
    weight, scales = layer.quant_weight().value.detach(), _weight_scales(layer)
    per_channel = scales.view(-1, *[1] * (weight.dim() - 1))
    codes = (weight / per_channel).round().to(torch.int8)
    bias = layer.bias is not None
    frozen: nn.Module
    if isinstance(layer, qnn.QuantConv2d):
        shape = (layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding)
        frozen = nn.Conv2d(*shape, groups=layer.groups, bias=bias)
    else:
        frozen = nn.Linear(layer.in_features, layer.out_features, bias=bias)
    frozen.weight = nn.Parameter(codes * per_channel, requires_grad=False)
    if bias:
        frozen.bias = nn.Parameter(layer.bias.detach().clone(), requires_grad=False)
    frozen.register_buffer("codes", codes)
    frozen.register_buffer("scales", scales)
    return frozen


LEAST_SCALE = 2.0**-20
"""Of a channel's weights, in units of its bias."""


def _weight_scales(layer: Any) -> Tensor:
    """Scale of each output channel's weights (out,), never so small that its bias overflows.

    A device adds the bias to int32 sums in units of input scale x weight scale. Folded batch norms leave
    channels that all but ignore their input: the scale of such weights is so small that the bias alone fills
    the 32 bits, and one step more turns a large output into its negative. With input scales above 2^-10,
    the floor keeps biases below 2^30; the weights that it rounds to 0 are a millionth of the bias.
    """
    scales = layer.quant_weight().scale.detach().flatten().expand(layer.weight.shape[0])
    return scales if layer.bias is None else torch.maximum(scales, layer.bias.detach().abs() * LEAST_SCALE)


def frozen_quantiser(quantiser: Any, ceiling: float = inf) -> FakeQuantise:
    """A trained brevitas quantiser with its scale fixed, saturating at ``ceiling`` at the latest."""
    scale = float(quantiser.act_quant.scale().detach())
    zero_point = round(float(quantiser.act_quant.zero_point().detach()))
    low, high = (-128, 127) if quantiser.act_quant.is_signed else (0, 255)
    return FakeQuantise(min(scale, ceiling / high), zero_point, low, high)


def _frozen_activation(module: QuantisedActivation) -> nn.Module:
    activation, quantiser = module
    frozen = frozen_quantiser(quantiser, ceiling=6.0 if isinstance(activation, nn.ReLU6) else inf)
    if frozen.low == 0 and frozen.zero_point == 0:
        # The unsigned quantiser's own saturation is the activation, on both ends.
        return frozen
    return nn.Sequential(nn.ReLU(), frozen)


@frozen.register(qnn.QuantConv2d)
@frozen.register(qnn.QuantLinear)
def _(module: nn.Module) -> nn.Module:
    return _frozen_layer(module)


@frozen.register(qnn.QuantIdentity)
def _(module: nn.Module) -> nn.Module:
    return frozen_quantiser(module)


@frozen.register
def _(module: QuantisedActivation) -> nn.Module:
    return _frozen_activation(module)
