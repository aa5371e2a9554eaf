"""Layers of many bit-widths over one weight set: all of a network switches by one call.

A network of these layers runs in float (32), or with weights of 8, 4 or 2 bits that nest exactly: the code
at b bits is the 8-bit code with its low bits dropped. What a device stores once serves every width.

The rule is AdaBits' "centered" one (arXiv 1912.09666): the lower code q stands for the middle of the 8-bit
codes that share it, (2q + 1) half steps. Its rivals: plain dropping ("modified" there) moves every weight
down by half a step, and 2 bits do not survive it; VideoIQ's ratio of means (arXiv 2108.10394) is as good, but
needs a zero point that is no integer, which no integer kernel has. Odd codes need none, and fit int8
(benchmarks/results/nesting-rules-imagenette160.json).

Batch norms are kept per width, with positive gain: folded into the codes' scales they never turn a sign, so
that folding cannot part the codes that the widths share.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

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

Rule = Literal["centered", "floor", "rescaled"]
"""What a lower code stands for; only ``centered`` can be frozen, the others are there to be compared."""


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
    largest of them if that is less. ``clip`` is one number a layer, learned by all widths together because
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
        if self.rule == "centered" or bits == STORED:
            return lower_codes(codes, bits) * self.half_step(bits)
        return _rival(codes, bits, self.rule) * self.step()

    def half_step(self, bits: int) -> Tensor:
        """What one code of ``lower_codes`` is worth: (out, 1, ...)."""
        return self.step() if bits == STORED else self.step() * 2 ** (STORED - 1 - bits)


def _rival(codes: Tensor, bits: int, rule: Rule) -> Tensor:
    """Dequantized lower codes in 8-bit steps, by the rules that were not taken."""
    bucket = 2 ** (STORED - bits)
    floored = floor_ste(codes / bucket) * bucket
    if rule == "floor":
        return floored
    # VideoIQ compares means of codes shifted to [0, 255], as its weights are normalized to [0, 1].
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


class SwitchableQuantizer(Switchable):
    """A learned activation quantizer per width, none in float. Codes have 8 bits or ``bits``."""

    def __init__(self, widths: Sequence[int], *, signed: bool, bits: Callable[[int], int]) -> None:
        super().__init__()
        base = ShiftedUint8ActPerTensorFloat if signed else Uint8ActPerTensorFloat
        self.quantizers = nn.ModuleDict(
            {
                str(width): qnn.QuantIdentity(act_quant=base, bit_width=bits(width))
                for width in widths
                if width != FLOAT
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        return x if self.width == FLOAT else self.quantizers[str(self.width)](x)


def set_width(network: nn.Module, width: int) -> None:
    """Switch a whole network, or a block of one, to a width."""
    for module in network.modules():
        if isinstance(module, Switchable):
            module.width = width


def nested_layers(network: nn.Module) -> dict[str, NestedWeight]:
    """Convolutions and linear layers by name, in the order of the network."""
    return {name: module for name, module in network.named_modules() if isinstance(module, NestedWeight)}


def stored_codes(network: nn.Module) -> dict[str, Tensor]:
    """The 8-bit codes of every layer, int8 in the shape of its weight, by layer name."""
    with torch.no_grad():
        return {name: layer.codes().to(torch.int8) for name, layer in nested_layers(network).items()}


def whole_layers(network: nn.Module) -> set[str]:
    """Names of the layers that keep 8 bits at every width."""
    return {name for name, layer in nested_layers(network).items() if layer.whole}
