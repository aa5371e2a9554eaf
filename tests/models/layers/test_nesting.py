"""Layers of many bit-widths: one weight set, codes that nest, and frozen networks that compute alike."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from models.backbones.blocks import Backbone
from models.backbones.registry import BACKBONES
from models.layers.nested_freezing import freeze
from models.layers.nested_layers import (
    WIDTHS,
    NestedConv2d,
    PositiveBatchNorm2d,
    check_widths,
    lower_codes,
    nested_layers,
    set_width,
    stored_codes,
    whole_layers,
)
from models.layers.nesting import calibrate, nest

NETWORKS = ("resnet10", "mobilenetv2")


def images(count: int = 4) -> Tensor:
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(1))


def backbone(name: str, *, negative_gains: bool = False) -> Backbone:
    """In evaluation mode, its batch norms not the identity."""
    torch.manual_seed(0)
    network = BACKBONES[name](5).eval()
    for norm in (m for m in network.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.weight.data.uniform_(-1.5 if negative_gains else 0.5, 1.5)
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2.0)
    return network


def calibrated(name: str, *, negative_gains: bool = False) -> Backbone:
    network = nest(backbone(name, negative_gains=negative_gains), WIDTHS)

    def run() -> Iterator[None]:
        network(images())
        yield

    calibrate(network, WIDTHS, run)
    return network.eval()


@pytest.fixture(scope="module", params=NETWORKS)
def trained(request: pytest.FixtureRequest) -> Backbone:
    """A few steps at every width, from norms of which some had negative gains."""
    network = calibrated(request.param, negative_gains=True).train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    for _ in range(3):
        for width in WIDTHS:
            set_width(network, width)
            functional.cross_entropy(network(images()), torch.tensor([0, 1, 2, 3])).backward()
        optimizer.step()
        optimizer.zero_grad()
    return network.eval()


@given(st.lists(st.integers(-128, 127), min_size=1, max_size=200), st.sampled_from([2, 4]))
def test_a_lower_code_is_the_8_bit_code_without_its_low_bits(codes: list[int], bits: int) -> None:
    eight = torch.tensor(codes)
    lower = lower_codes(eight.float(), bits)
    assert torch.equal(lower.long(), 2 * (eight >> (8 - bits)) + 1)
    assert lower.abs().max() <= 2**bits - 1


@given(st.floats(0.01, 10), st.floats(0.5, 5), st.integers(0, 2**16))
@settings(max_examples=40)
def test_codes_of_random_weights_nest(deviation: float, clip: float, seed: int) -> None:
    torch.manual_seed(seed)
    layer = NestedConv2d(nn.Conv2d(3, 4, 3, bias=False), whole=False, rule="centered")
    layer.weight.data.normal_(std=deviation)
    layer.clip.data.fill_(clip)
    codes = layer.codes()
    assert codes.min() >= -128 and codes.max() <= 127
    for bits in (4, 2):
        layer.width = bits
        steps = layer.nested_weight() / layer.half_step(bits)
        torch.testing.assert_close(steps, lower_codes(codes, bits), atol=1e-3, rtol=0)


def test_every_code_of_a_trained_network_is_shifted(trained: Backbone) -> None:
    eight, whole = stored_codes(trained), whole_layers(trained)
    assert set(eight) == set(nested_layers(trained)) and len(whole) == 2
    for width in (8, 4, 2):
        frozen = freeze(trained, width, "uint8")
        for name, codes in eight.items():
            bits = 8 if name in whole else width
            wanted = codes if bits == 8 else 2 * (codes >> (8 - bits)) + 1
            assert torch.equal(frozen.get_submodule(name).get_buffer("codes"), wanted.to(torch.int8)), name


def test_no_scale_of_a_trained_network_is_negative(trained: Backbone) -> None:
    """Or folding the batch norm would have turned the signs of codes that other widths share."""
    for width in (8, 4, 2):
        frozen = freeze(trained, width, "uint8")
        for name in stored_codes(trained):
            assert (frozen.get_submodule(name).get_buffer("scales") > 0).all(), name


@pytest.mark.parametrize("name", NETWORKS)
def test_negative_gains_change_nothing_in_float(name: str) -> None:
    plain = backbone(name, negative_gains=True)
    torch.testing.assert_close(nest(plain, WIDTHS)(images()), plain(images()), atol=1e-4, rtol=1e-4)


def test_frozen_networks_compute_what_was_trained(trained: Backbone) -> None:
    for width in WIDTHS:
        set_width(trained, width)
        with torch.no_grad():
            wanted, got = trained(images()), freeze(trained, width, "uint8")(images())
        # Rounding may fall to the other side here and there; a wrong scale or bias would show everywhere.
        assert (got - wanted).abs().mean() < 0.03 * wanted.std(), width


def test_biases_of_dead_channels_fit_32_bits() -> None:
    network = backbone("resnet10")
    conv, norm = network.get_submodule("layer1.0.conv1"), network.get_submodule("layer1.0.bn1")
    assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
    conv.weight.data[3] = 1e-12
    norm.bias.data[3] = 5.0
    norm.running_mean[3] = 0.0  # type: ignore[index]
    nested = nest(network, WIDTHS)
    for width in (8, 4, 2):
        frozen = freeze(nested, width, "uint8").get_submodule("layer1.0.conv1")
        assert isinstance(frozen, nn.Conv2d) and frozen.bias is not None
        least_input_scale = 2.0**-10
        codes = frozen.bias / (frozen.get_buffer("scales") * least_input_scale)
        assert codes.abs().max() < 2**31
        assert frozen.weight[3].abs().max() < 1e-3 * frozen.bias[3].abs()


def test_8_bits_are_near_float() -> None:
    network = calibrated("mobilenetv2")
    with torch.no_grad():
        outputs = {}
        for width in WIDTHS:
            set_width(network, width)
            outputs[width] = network(images())
    errors = [float((outputs[width] - outputs[32]).abs().mean()) for width in (8, 4, 2)]
    assert errors == sorted(errors)
    assert errors[0] < 0.1 * float(outputs[32].std())


def test_a_gain_that_training_turns_negative_stays_positive() -> None:
    norm = PositiveBatchNorm2d(2).eval()
    norm.weight.data = torch.tensor([-2.0, 2.0])
    twice = norm(torch.ones(1, 2, 1, 1)).flatten()
    assert twice[0] == twice[1] > 0


def test_widths_share_weights_and_not_norms_or_scales() -> None:
    network = calibrated("resnet10")
    before = copy.deepcopy(network.state_dict())
    set_width(network.train(), 4)
    network(images()).sum().backward()
    touched = {name for name, p in network.named_parameters() if p.grad is not None}
    assert {name for name in touched if ".norms." in name} == {
        name for name in before if ".norms.4." in name and name.endswith(("weight", "bias"))
    }
    assert all(".quantizers.4." in name for name in touched if ".quantizers." in name)
    assert "layer1.0.conv1.weight" in touched and "layer1.0.conv1.clip" in touched


@pytest.mark.parametrize("widths", [(), (8, 8), (3,), (32, 1)])
def test_unknown_widths_are_refused(widths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="use some of 32, 8, 4, 2, each once"):
        check_widths(widths)


def test_what_no_kernel_takes_is_not_frozen() -> None:
    plain = backbone("resnet10")
    with pytest.raises(ValueError, match="centered rule"):
        freeze(nest(plain, WIDTHS, rule="rescaled"), 4, "uint8")
    with pytest.raises(ValueError, match="fewer than 8 bits"):
        freeze(nest(plain, WIDTHS, low_activations=True), 4, "uint8")
