"""Freezing a network of many bit-widths at one of them: plain layers with fixed numbers."""

from __future__ import annotations

import copy
from functools import singledispatch
from math import inf
from typing import Any

import torch
from torch import Tensor, nn

from models.backbones.blocks import Backbone
from models.layers import quantization
from models.layers.nested_layers import (
    FLOAT,
    STORED,
    NestedConv2d,
    NestedLinear,
    NestedWeight,
    SwitchableNorm,
    SwitchableQuantizer,
    lower_codes,
    nested_layers,
    set_width,
)
from models.layers.quantization import (
    LEAST_SCALE,
    ActivationFormat,
    FakeQuantize,
    QuantizedActivation,
)


def freeze(network: Backbone, width: int, activations: ActivationFormat) -> Backbone:
    """A copy in plain layers with fixed numbers, as a device computes at one width.

    At 32 an ordinary float network. Below, layers hold ``codes * scales`` with ``codes`` int8 (those of
    ``lower_codes``) and ``scales`` (out,) as buffers beside them, batch norms folded into scales and biases.

    Raises: ValueError for activations of fewer than 8 bits, and for rules other than ``centered``.
    """
    if any(layer.rule != "centered" for layer in nested_layers(network).values()):
        raise ValueError("only the centered rule has codes that an integer kernel takes")
    network = copy.deepcopy(network).eval()
    set_width(network, width)
    with torch.no_grad():
        _freeze_children(network, activations)
    return network


def _freeze_children(parent: nn.Module, activations: ActivationFormat) -> None:
    children = list(parent.named_children())
    for i, (name, child) in enumerate(children):
        following = children[i + 1][1] if i + 1 < len(children) else None
        setattr(parent, name, frozen(child, following, activations))


@singledispatch
def frozen(module: nn.Module, following: nn.Module | None, activations: ActivationFormat) -> nn.Module:
    """The plain counterpart of a module, by its type; others have their children frozen.

    ``following``: the sibling after it. Register a rule for a new type of switchable layer here.
    """
    _freeze_children(module, activations)
    return module


@frozen.register
def _(module: NestedConv2d, following: nn.Module | None, activations: ActivationFormat) -> nn.Module:
    return _frozen_conv(module, _norm_of(following))


@frozen.register
def _(module: NestedLinear, following: nn.Module | None, activations: ActivationFormat) -> nn.Module:
    return _frozen_linear(module)


@frozen.register
def _(module: SwitchableNorm, following: nn.Module | None, activations: ActivationFormat) -> nn.Module:
    return nn.Identity()  # folded into the convolution before it


@frozen.register
def _(module: SwitchableQuantizer, following: nn.Module | None, activations: ActivationFormat) -> nn.Module:
    return _frozen_quantizer(module, activations)


@frozen.register
def _(module: QuantizedActivation, following: nn.Module | None, activations: ActivationFormat) -> nn.Module:
    return _frozen_activation(module, activations)


def _norm_of(following: nn.Module | None) -> SwitchableNorm:
    norm = following[0] if isinstance(following, nn.Sequential) else following
    assert isinstance(norm, SwitchableNorm), "every convolution has a batch norm"
    return norm


def _frozen_conv(conv: NestedConv2d, norm: SwitchableNorm) -> nn.Conv2d:
    gain, offset = norm.affine()
    shape = (conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding)
    frozen = nn.Conv2d(*shape, groups=conv.groups)  # type: ignore[arg-type]  # pairs, whatever the hint says
    _fill(frozen, conv, gain.clamp(min=1e-8), offset)
    return frozen


def _frozen_linear(linear: NestedLinear) -> nn.Linear:
    frozen = nn.Linear(linear.in_features, linear.out_features)
    _fill(frozen, linear, torch.ones(linear.out_features), linear.bias)
    return frozen


def _fill(frozen: nn.Conv2d | nn.Linear, layer: NestedWeight, gain: Tensor, bias: Tensor) -> None:
    column = (-1, *[1] * (layer.weight.dim() - 1))
    frozen.requires_grad_(False)
    assert frozen.bias is not None
    frozen.bias.data = bias.detach().clone()
    if layer.width == FLOAT:
        frozen.weight.data = layer.weight * gain.view(column)
        return
    codes = lower_codes(layer.codes(), layer.bits())
    # As in layers/quantization.py: of channels that all but ignore their input the bias would overflow. Their
    # codes are shared and stay; what they are worth grows to a ten-thousandth of the bias at most.
    scales = torch.maximum(layer.half_step(layer.bits()).flatten() * gain, bias.detach().abs() * LEAST_SCALE)
    frozen.weight.data = codes * scales.view(column)
    frozen.register_buffer("codes", codes.to(torch.int8))
    frozen.register_buffer("scales", scales)


def _frozen_quantizer(
    quantizer: SwitchableQuantizer, activations: ActivationFormat, ceiling: float = inf
) -> nn.Module:
    """The quantizer of the width in use: uint8 as trained, or int8 of the same range."""
    if quantizer.width == FLOAT:
        return nn.Identity()
    trained = quantizer.quantizers[str(quantizer.width)]
    proxy: Any = trained.act_quant
    if round(float(proxy.bit_width())) != STORED:
        raise ValueError("activations of fewer than 8 bits are for comparison: no kernel takes them")
    frozen = quantization.frozen_quantizer(trained, ceiling)
    if activations == "uint8":
        return frozen
    reach = max(frozen.zero_point, frozen.high - frozen.zero_point) * frozen.scale
    return FakeQuantize(reach / 127, 0, -128, 127)


def _frozen_activation(module: QuantizedActivation, activations: ActivationFormat) -> nn.Module:
    activation, quantizer = module
    assert isinstance(quantizer, SwitchableQuantizer)
    if quantizer.width == FLOAT:
        return activation
    frozen = _frozen_quantizer(quantizer, activations, 6.0 if isinstance(activation, nn.ReLU6) else inf)
    if activations == "uint8":
        # The unsigned quantizer's own saturation is the activation, on both ends.
        return frozen
    return nn.Sequential(nn.ReLU(), frozen)
