"""Layers of many bit-widths over one weight set: all of a network switches by one call.

A network of these layers runs in float (32), or with weights of 8, 4 or 2 bits that nest exactly: the code
at b bits is the 8-bit code with its low bits dropped. What a device stores once serves every width.

The rule is AdaBits' "centred" one (arXiv 1912.09666): the lower code q stands for the middle of the 8-bit
codes that share it, (2q + 1) half steps. Its rivals: plain dropping ("modified" there) moves every weight
down by half a step, and 2 bits do not survive it; VideoIQ's ratio of means (arXiv 2108.10394) is as good, but
needs a zero point that is no integer, which no integer kernel has. Odd codes need none, and fit int8
(benchmarks/results/nesting-rules-imagenette160.json).

Batch norms are kept per width, with positive gain: folded into the codes' scales they never turn a sign, so
that folding cannot part the codes that the widths share.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from math import inf
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.backbones.blocks import Add, Backbone
from models.layers import quantization
from models.layers.norm_statistics import match_moments, moments_before
from models.layers.quantization import (
    LEAST_SCALE,
    ActivationFormat,
    FakeQuantise,
    QuantisedActivation,
    QuantisedAdd,
)

with warnings.catch_warnings():
    # On import it complains of an optional package that nothing here uses.
    warnings.filterwarnings("ignore", message="fast_hadamard_transform")
    from brevitas import nn as qnn
    from brevitas.function.ops_ste import floor_ste, round_ste
    from brevitas.quant import ShiftedUint8ActPerTensorFloat, Uint8ActPerTensorFloat

FLOAT = 32
WIDTHS = (32, 8, 4, 2)
"""Every width a network may have: float, and the bits of its weight codes."""

STORED = 8
"""The width whose codes are stored."""

FOUR_BITS = 2.7
"""Where 4 bits best saturate normally distributed weights, in standard deviations; 2 bits do at 2.0."""

EIGHT_BITS = 4.0
"""Where 8 bits do."""

Rule = Literal["centred", "floor", "rescaled"]
"""What a lower code stands for; only ``centred`` can be frozen, the others are there to be compared."""

_ACTIVATIONS = nn.ReLU | nn.ReLU6


def check_widths(widths: Sequence[int]) -> tuple[int, ...]:
    """The widths in falling order. Raises: ValueError for none, one that is unknown, or a repeated one."""
    unknown = sorted(set(widths) - set(WIDTHS))
    if not widths or unknown or len(set(widths)) != len(widths):
        given = ", ".join(map(str, widths)) or "none"
        raise ValueError(f"bit-widths {given}: use some of {', '.join(map(str, WIDTHS))}, each once")
    return tuple(sorted(widths, reverse=True))


def lower_codes(codes: Tensor, bits: int) -> Tensor:
    """The codes a ``bits``-wide graph computes with, of 8-bit ``codes``: themselves, or odd ones.

    Straight-through gradients; values stay in [-128, 127] and any dtype that holds them.
    """
    if bits == STORED:
        return codes
    return 2 * floor_ste(codes / 2 ** (STORED - bits)) + 1


class Switchable(nn.Module):
    """Base of all that depends on the width in use."""

    width: int = FLOAT


class NestedWeight(Switchable):
    """What convolutions and linear layers share: 8-bit codes and all that nests in them.

    Codes saturate at ``clip`` times a channel's reach: so many standard ``deviations`` of its weights, or the
    largest of them if that is less. ``clip`` is one number a layer, learnt by all widths together because
    their codes are the same codes. ``whole`` layers (the first and the last) keep 8 bits at every width, as
    the papers keep theirs in float.
    """

    weight: Tensor
    clip: nn.Parameter
    whole: bool
    rule: Rule
    deviations: float

    def step(self) -> Tensor:
        """What one 8-bit code is worth, per output channel: (out, 1, ...)."""
        rows = self.weight.detach().flatten(1)
        deviation = rows.std(dim=1, correction=0).clamp(min=1e-8)  # of a dead channel: infinite times 0
        reach = torch.minimum(self.deviations * deviation, rows.abs().amax(dim=1))
        step = (self.clip.abs() * reach / 128).clamp(min=1e-8)
        return step.view(-1, *[1] * (self.weight.dim() - 1))

    def codes(self) -> Tensor:
        """8-bit codes as floats, with straight-through gradients inside the clip."""
        return round_ste(torch.clamp(self.weight / self.step(), -128, 127))

    def bits(self) -> int:
        """The bits of this layer at the width in use."""
        return STORED if self.whole else self.width

    def nested_weight(self) -> Tensor:
        """The weight at the width in use, in the shape of ``weight``."""
        if self.width == FLOAT:
            return self.weight
        codes, bits = self.codes(), self.bits()
        if self.rule == "centred" or bits == STORED:
            return lower_codes(codes, bits) * self.half_step(bits)
        return _rival(codes, bits, self.rule) * self.step()

    def half_step(self, bits: int) -> Tensor:
        """What one code of ``lower_codes`` is worth: (out, 1, ...)."""
        return self.step() if bits == STORED else self.step() * 2 ** (STORED - 1 - bits)


def _rival(codes: Tensor, bits: int, rule: Rule) -> Tensor:
    """Dequantised lower codes in 8-bit steps, by the rules that were not taken."""
    bucket = 2 ** (STORED - bits)
    floored = floor_ste(codes / bucket) * bucket
    if rule == "floor":
        return floored
    # VideoIQ compares means of codes shifted to [0, 255], as its weights are normalised to [0, 1].
    ratio = ((codes + 128).mean() / (floored + 128).mean()).detach()
    return (floored + 128) * ratio - 128


class NestedConv2d(NestedWeight, nn.Conv2d):
    """A convolution at any width; no bias, a batch norm follows."""

    def __init__(self, conv: nn.Conv2d, *, whole: bool, rule: Rule, deviations: float = FOUR_BITS) -> None:
        nn.Conv2d.__init__(
            self,
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]  # a pair, whatever its hint says
            conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
            groups=conv.groups,
            bias=False,
        )
        self.weight.data = conv.weight.data.clone()
        self.whole, self.rule = whole, rule
        self.deviations = deviations
        self.clip = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.nested_weight(), None)


class NestedLinear(NestedWeight, nn.Linear):
    """A linear layer at any width, its bias shared by all."""

    def __init__(self, linear: nn.Linear, *, whole: bool, rule: Rule) -> None:
        nn.Linear.__init__(self, linear.in_features, linear.out_features)
        self.load_state_dict(linear.state_dict())
        self.whole, self.rule = whole, rule
        self.deviations = EIGHT_BITS
        self.clip = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.nested_weight(), self.bias)


class PositiveBatchNorm2d(nn.BatchNorm2d):
    """A batch norm whose gain is taken without its sign."""

    def forward(self, x: Tensor) -> Tensor:
        gain = self.weight.abs()
        return functional.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            gain,
            self.bias,
            self.training,
            self.momentum or 0.0,
            self.eps,
        )


class SwitchableNorm(Switchable):
    """A batch norm per width: statistics differ between them."""

    def __init__(self, norm: nn.BatchNorm2d, widths: Sequence[int]) -> None:
        super().__init__()
        self.norms = nn.ModuleDict({str(width): _positive(norm) for width in widths})

    def forward(self, x: Tensor) -> Tensor:
        return self.norms[str(self.width)](x)

    def norm(self) -> PositiveBatchNorm2d:
        """The norm of the width in use."""
        norm = self.norms[str(self.width)]
        assert isinstance(norm, PositiveBatchNorm2d)
        return norm

    def affine(self) -> tuple[Tensor, Tensor]:
        """Gain and offset (C,) that the norm of the width in use comes to in evaluation."""
        norm = self.norm()
        assert norm.running_var is not None and norm.running_mean is not None
        gain = norm.weight.abs() / torch.sqrt(norm.running_var + norm.eps)
        return gain, norm.bias - norm.running_mean * gain


def _positive(norm: nn.BatchNorm2d) -> PositiveBatchNorm2d:
    copied = PositiveBatchNorm2d(norm.num_features, norm.eps, norm.momentum)
    copied.load_state_dict(norm.state_dict())
    return copied


class SwitchableQuantiser(Switchable):
    """A learnt activation quantiser per width, none in float. Codes have 8 bits unless ``bits`` says less."""

    def __init__(self, widths: Sequence[int], *, signed: bool, bits: Callable[[int], int]) -> None:
        super().__init__()
        base = ShiftedUint8ActPerTensorFloat if signed else Uint8ActPerTensorFloat
        self.quantisers = nn.ModuleDict(
            {
                str(width): qnn.QuantIdentity(act_quant=base, bit_width=bits(width))
                for width in widths
                if width != FLOAT
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        return x if self.width == FLOAT else self.quantisers[str(self.width)](x)


def nest(
    network: Backbone,
    widths: Sequence[int],
    *,
    rule: Rule = "centred",
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
    nester = _Nester(widths, rule, bits, deviations)
    nester.nest_children(network)
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


class _Nester:
    """Replaces a network's layers one by one, found by the order of siblings."""

    def __init__(
        self, widths: Sequence[int], rule: Rule, bits: Callable[[int], int], deviations: float
    ) -> None:
        self.widths, self.rule, self.bits, self.deviations = widths, rule, bits, deviations
        self.first = True

    def nest_children(self, parent: nn.Module) -> None:
        children = list(parent.named_children())
        for i, (name, child) in enumerate(children):
            following = children[i + 1][1] if i + 1 < len(children) else None
            setattr(parent, name, self._nested(child, isinstance(following, _ACTIVATIONS)))

    def _nested(self, module: nn.Module, then_activation: bool) -> nn.Module:
        if isinstance(module, nn.Conv2d):
            whole, self.first = self.first, False
            clip = max(EIGHT_BITS, self.deviations) if whole else self.deviations
            return NestedConv2d(module, whole=whole, rule=self.rule, deviations=clip)
        if isinstance(module, nn.Linear):
            return NestedLinear(module, whole=True, rule=self.rule)
        if isinstance(module, nn.BatchNorm2d):
            norm = SwitchableNorm(module, self.widths)
            return norm if then_activation else nn.Sequential(norm, self._quantiser(signed=True))
        if isinstance(module, Add):
            return module if then_activation else QuantisedAdd(self._quantiser(signed=True))
        if isinstance(module, _ACTIVATIONS):
            return QuantisedActivation(module, self._quantiser(signed=False))
        if isinstance(module, nn.AdaptiveAvgPool2d):
            return nn.Sequential(module, self._quantiser(signed=False))
        self.nest_children(module)
        return module

    def _quantiser(self, *, signed: bool) -> SwitchableQuantiser:
        return SwitchableQuantiser(self.widths, signed=signed, bits=self.bits)


def set_width(network: nn.Module, width: int) -> None:
    """Switch a whole network, or a block of one, to a width."""
    for module in network.modules():
        if isinstance(module, Switchable):
            module.width = width


def nested_layers(network: nn.Module) -> dict[str, NestedWeight]:
    """Convolutions and linear layers by name, in the order of the network."""
    return {name: module for name, module in network.named_modules() if isinstance(module, NestedWeight)}


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
    Activations stay in float meanwhile: their quantisers are calibrated after this.
    """
    switchable = [module for module in network.modules() if isinstance(module, SwitchableNorm)]
    quantisers = [module for module in network.modules() if isinstance(module, SwitchableQuantiser)]
    network.eval()
    highest, *lower = sorted(widths, reverse=True)
    set_width(network, highest)
    wanted = moments_before([module.norm() for module in switchable], run())
    for width in lower:
        set_width(network, width)
        for quantiser in quantisers:
            quantiser.width = FLOAT
        match_moments([module.norm() for module in switchable], wanted, run())


def stored_codes(network: nn.Module) -> dict[str, Tensor]:
    """The 8-bit codes of every layer, int8 in the shape of its weight, by layer name."""
    with torch.no_grad():
        return {name: layer.codes().to(torch.int8) for name, layer in nested_layers(network).items()}


def whole_layers(network: nn.Module) -> set[str]:
    """Names of the layers that keep 8 bits at every width."""
    return {name for name, layer in nested_layers(network).items() if layer.whole}


def freeze(network: Backbone, width: int, activations: ActivationFormat) -> Backbone:
    """A copy in plain layers with fixed numbers, as a device computes at one width.

    At 32 an ordinary float network. Below, layers hold ``codes * scales`` with ``codes`` int8 (those of
    ``lower_codes``) and ``scales`` (out,) as buffers beside them, batch norms folded into scales and biases.

    Raises: ValueError for activations of fewer than 8 bits, and for rules other than ``centred``.
    """
    if any(layer.rule != "centred" for layer in nested_layers(network).values()):
        raise ValueError("only the centred rule has codes that an integer kernel takes")
    network = copy.deepcopy(network).eval()
    set_width(network, width)
    with torch.no_grad():
        _freeze_children(network, activations)
    return network


def _freeze_children(parent: nn.Module, activations: ActivationFormat) -> None:
    children = list(parent.named_children())
    for i, (name, child) in enumerate(children):
        following = children[i + 1][1] if i + 1 < len(children) else None
        frozen: nn.Module | None = None
        if isinstance(child, NestedConv2d):
            frozen = _frozen_conv(child, _norm_of(following))
        elif isinstance(child, NestedLinear):
            frozen = _frozen_linear(child)
        elif isinstance(child, SwitchableNorm):  # folded into the convolution before it
            frozen = nn.Identity()
        elif isinstance(child, SwitchableQuantiser):
            frozen = _frozen_quantiser(child, activations)
        elif isinstance(child, QuantisedActivation):
            frozen = _frozen_activation(child, activations)
        if frozen is None:
            _freeze_children(child, activations)
        else:
            setattr(parent, name, frozen)


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


def _frozen_quantiser(
    quantiser: SwitchableQuantiser, activations: ActivationFormat, ceiling: float = inf
) -> nn.Module:
    """The quantiser of the width in use: uint8 as trained, or int8 of the same range."""
    if quantiser.width == FLOAT:
        return nn.Identity()
    trained = quantiser.quantisers[str(quantiser.width)]
    proxy: Any = trained.act_quant
    if round(float(proxy.bit_width())) != STORED:
        raise ValueError("activations of fewer than 8 bits are for comparison: no kernel takes them")
    frozen = quantization.frozen_quantiser(trained, ceiling)
    if activations == "uint8":
        return frozen
    reach = max(frozen.zero_point, frozen.high - frozen.zero_point) * frozen.scale
    return FakeQuantise(reach / 127, 0, -128, 127)


def _frozen_activation(module: QuantisedActivation, activations: ActivationFormat) -> nn.Module:
    activation, quantiser = module
    assert isinstance(quantiser, SwitchableQuantiser)
    if quantiser.width == FLOAT:
        return activation
    frozen = _frozen_quantiser(quantiser, activations, 6.0 if isinstance(activation, nn.ReLU6) else inf)
    if activations == "uint8":
        # The unsigned quantiser's own saturation is the activation, on both ends.
        return frozen
    return nn.Sequential(nn.ReLU(), frozen)
