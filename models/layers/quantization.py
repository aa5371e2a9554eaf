"""int8 quantization-aware training on brevitas' quantizers, and the frozen integer network it ends in.

``quantize`` folds every batch norm and puts a quantizer behind everything that computes, found by the
order of siblings: a runtime fuses a layer only if its input, weights, bias and output are all quantized.
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
"""Activations that the quantizer of their output takes the place of."""


def quantize(network: nn.Module, activations: ActivationFormat) -> nn.Module:
    """A copy of ``network`` for quantization-aware training: batch norms folded, quantizers everywhere.

    Weights are int8 per output channel, symmetric in [-127, 127]. The input is taken as it is: pixels are
    integers already. Call ``calibrate`` before training it.
    """
    network = copy.deepcopy(network).eval()
    _quantize_children(network, activations)
    return network


def calibrate(network: nn.Module, run: Iterable[None]) -> None:
    """Set the activation scales from the statistics seen while ``run`` is exhausted (it runs the network)."""
    network.eval()
    with torch.no_grad(), calibration_mode(network):
        for _ in run:
            pass


def _quantize_children(parent: nn.Module, activations: ActivationFormat) -> None:
    children = list(parent.named_children())
    for i, (name, child) in enumerate(children):
        following = children[i + 1][1] if i + 1 < len(children) else None
        if isinstance(child, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
            child = fuse_conv_bn_eval(child, following)
        setattr(parent, name, quantized(child, isinstance(following, ACTIVATIONS), activations))


@singledispatch
def quantized(module: nn.Module, then_activation: bool, activations: ActivationFormat) -> nn.Module:
    """The quantized counterpart of a module, by its type; others have their children quantized.

    ``then_activation``: whether an activation follows. Register a rule for a new type of module here.
    """
    _quantize_children(module, activations)
    return module


@quantized.register
def _(module: nn.Conv2d, then_activation: bool, activations: ActivationFormat) -> nn.Module:
    return _quantized_conv(module)


@quantized.register
def _(module: nn.Linear, then_activation: bool, activations: ActivationFormat) -> nn.Module:
    return _quantized_linear(module)


@quantized.register
def _(module: nn.BatchNorm2d, then_activation: bool, activations: ActivationFormat) -> nn.Module:
    # Folded into the convolution before it.
    return nn.Identity() if then_activation else _signed(activations)


@quantized.register
def _(module: Add, then_activation: bool, activations: ActivationFormat) -> nn.Module:
    return module if then_activation else QuantizedAdd(_signed(activations))


@quantized.register(nn.ReLU)
@quantized.register(nn.ReLU6)
def _(module: nn.Module, then_activation: bool, activations: ActivationFormat) -> nn.Module:
    return QuantizedActivation(module, _unsigned(activations))


@quantized.register
def _(module: nn.AdaptiveAvgPool2d, then_activation: bool, activations: ActivationFormat) -> nn.Module:
    return nn.Sequential(module, _unsigned(activations))


@quantized.register
def _(module: Boundary, then_activation: bool, activations: ActivationFormat) -> nn.Module:
    return _signed(activations)


def _unsigned(activations: ActivationFormat) -> nn.Module:
    """A quantizer of what is never negative."""
    quantizer = Uint8ActPerTensorFloat if activations == "uint8" else Int8ActPerTensorFloat
    return qnn.QuantIdentity(act_quant=quantizer)


def _signed(activations: ActivationFormat) -> nn.Module:
    quantizer = ShiftedUint8ActPerTensorFloat if activations == "uint8" else Int8ActPerTensorFloat
    return qnn.QuantIdentity(act_quant=quantizer)


def _quantized_conv(conv: nn.Conv2d) -> nn.Module:
    quantized = qnn.QuantConv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        stride=conv.stride,
        padding=conv.padding,
        groups=conv.groups,
        bias=conv.bias is not None,
        weight_quant=Int8WeightPerChannelFloat,
    )
    quantized.load_state_dict(conv.state_dict(), strict=False)
    return quantized


def _quantized_linear(linear: nn.Linear) -> nn.Module:
    bias = linear.bias is not None
    quantized = qnn.QuantLinear(
        linear.in_features, linear.out_features, bias=bias, weight_quant=Int8WeightPerChannelFloat
    )
    quantized.load_state_dict(linear.state_dict(), strict=False)
    return quantized


class QuantizedAdd(Add):
    """An addition whose sum is quantized."""

    def __init__(self, quantizer: nn.Module) -> None:
        super().__init__()
        self.quantizer = quantizer

    def forward(self, branch: Tensor, shortcut: Tensor) -> Tensor:
        return self.quantizer(branch + shortcut)


class QuantizedActivation(nn.Sequential):
    """ReLU or ReLU6 and the quantizer of its output."""

    def __init__(self, activation: nn.Module, quantizer: nn.Module) -> None:
        super().__init__(activation, quantizer)


class FakeQuantize(nn.Module):
    """A fixed quantizer: rounds to ``(q - zero_point) * scale`` with q in [low, high]. Exports as Q/DQ."""

    def __init__(self, scale: float, zero_point: int, low: int, high: int) -> None:
        super().__init__()
        self.scale, self.zero_point, self.low, self.high = scale, zero_point, low, high

    def forward(self, x: Tensor) -> Tensor:
        return torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero_point, self.low, self.high)


def freeze(network: nn.Module) -> nn.Module:
    """A copy of a trained quantized network in plain layers, each number the one a device computes with.

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
    """The plain counterpart of a quantized module, by its type; others have their children frozen."""
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


def frozen_quantizer(quantizer: Any, ceiling: float = inf) -> FakeQuantize:
    """A trained brevitas quantizer with its scale fixed, saturating at ``ceiling`` at the latest."""
    scale = float(quantizer.act_quant.scale().detach())
    zero_point = round(float(quantizer.act_quant.zero_point().detach()))
    low, high = (-128, 127) if quantizer.act_quant.is_signed else (0, 255)
    return FakeQuantize(min(scale, ceiling / high), zero_point, low, high)


def _frozen_activation(module: QuantizedActivation) -> nn.Module:
    activation, quantizer = module
    frozen = frozen_quantizer(quantizer, ceiling=6.0 if isinstance(activation, nn.ReLU6) else inf)
    if frozen.low == 0 and frozen.zero_point == 0:
        # The unsigned quantizer's own saturation is the activation, on both ends.
        return frozen
    return nn.Sequential(nn.ReLU(), frozen)


@frozen.register(qnn.QuantConv2d)
@frozen.register(qnn.QuantLinear)
def _(module: nn.Module) -> nn.Module:
    return _frozen_layer(module)


@frozen.register(qnn.QuantIdentity)
def _(module: nn.Module) -> nn.Module:
    return frozen_quantizer(module)


@frozen.register
def _(module: QuantizedActivation) -> nn.Module:
    return _frozen_activation(module)
