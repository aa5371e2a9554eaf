"""int8: quantizers where they belong, training through them, and a frozen network of plain integers."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from typing import get_args

import pytest
import torch
from brevitas import nn as qnn
from torch import Tensor, nn

from models.backbones.blocks import Backbone
from models.backbones.registry import BACKBONES
from models.layers.quantization import ActivationFormat, FakeQuantize, calibrate, freeze, quantize
from models.policies.conditioning import PRICE_TOP
from models.policies.policy import RecurrentPolicy
from tests.models.small_arnet import SMALLEST

FORMATS = get_args(ActivationFormat)
SIZE = 48


def images(count: int = 8, seed: int = 0) -> Tensor:
    """Smooth random pictures as a network sees them: (count, 3, SIZE, SIZE) in [-2, 2)."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 256, (count, 3, 6, 6), generator=generator).float()
    return (nn.functional.interpolate(coarse, SIZE).round() - 128) / 64


def settled(network: nn.Module) -> nn.Module:
    """Batch norms with the statistics of real inputs, as after training."""
    network.train()
    with torch.no_grad():
        for seed in range(8):
            run(network, images(seed=seed))
    return network.eval()


def run(network: nn.Module, pictures: Tensor) -> Tensor:
    """Every output of a branch, or of a policy's two steps, side by side (N, ...)."""
    if not hasattr(network, "advance"):
        return network(pictures)
    assert isinstance(network, RecurrentPolicy)
    features = network.embed(pictures)
    count = len(pictures)
    first = network.advance(features, network.no_conditions(count), network.initial_state(count))
    price = torch.linspace(0, PRICE_TOP, count)[:, None]
    second = network.advance(features, network.encode_conditions(price, None), first.state)
    return torch.cat((*network.head_logits(features), second.scores, second.state.h), 1)


def branch(name: str) -> Callable[[], nn.Module]:
    return lambda: settled(BACKBONES[name](4))


def policy() -> nn.Module:
    network = RecurrentPolicy(BACKBONES[SMALLEST](4), hidden=16, num_options=7, num_classes=4)
    nn.init.normal_(network.score.weight)
    return settled(network)


MAKERS = {"resnet10": branch(SMALLEST), "mobilenetv2": branch("mobilenetv2"), "policy": policy}


@functools.cache
def made(name: str) -> nn.Module:
    """One of the float networks."""
    torch.manual_seed(0)
    return MAKERS[name]()


@functools.cache
def _calibrated(name: str, activations: ActivationFormat) -> nn.Module:
    quantized = quantize(made(name), activations)

    def batches() -> Iterator[None]:
        for seed in range(2):
            run(quantized, images(seed=seed))
            yield

    calibrate(quantized, batches())
    return quantized


def calibrated(name: str, activations: ActivationFormat) -> nn.Module:
    """The network in its quantized form, ready to be trained."""
    return copy.deepcopy(_calibrated(name, activations))


@pytest.fixture(scope="module", params=[(name, form) for name in MAKERS for form in FORMATS], ids=str)
def stages(request: pytest.FixtureRequest) -> tuple[nn.Module, nn.Module, nn.Module]:
    """A float network, its calibrated counterpart, and the frozen one."""
    name, activations = request.param
    quantized = calibrated(name, activations)
    return made(name), quantized, freeze(quantized)


Stages = tuple[nn.Module, nn.Module, nn.Module]


def relative_error(got: Tensor, wanted: Tensor) -> float:
    return float((got - wanted).norm() / wanted.norm())


def test_frozen_equals_the_trained_network(stages: Stages) -> None:
    _, quantized, frozen = stages
    quantized.eval()
    with torch.no_grad():
        got, wanted = run(frozen, images(seed=99)), run(quantized, images(seed=99))
    assert relative_error(got, wanted) < 0.02


def test_int8_stays_near_float(stages: Stages) -> None:
    network, _, frozen = stages
    with torch.no_grad():
        got, wanted = run(frozen, images(seed=99)), run(network, images(seed=99))
    assert relative_error(got, wanted) < 0.2


def test_every_layer_is_frozen_to_codes(stages: Stages) -> None:
    network, _, frozen = stages
    layers = [m for m in frozen.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == sum(isinstance(m, nn.Conv2d | nn.Linear) for m in network.modules())
    for layer in layers:
        codes, scales = layer.get_buffer("codes"), layer.get_buffer("scales")
        assert codes.dtype == torch.int8 and codes.shape == layer.weight.shape
        assert int(codes.min()) >= -127 and int(codes.max()) <= 127
        shape = (-1, *[1] * (codes.dim() - 1))
        assert torch.allclose(layer.weight, codes.float() * scales.view(shape), rtol=1e-6, atol=0)
        assert (scales > 0).all()
        assert (codes.flatten(1).abs().amax(1) == 127).float().mean() > 0.9  # each channel uses its range


def test_nothing_else_computes(stages: Stages) -> None:
    _, _, frozen = stages
    left = {type(m) for m in frozen.modules()}
    assert nn.BatchNorm2d not in left and nn.ReLU6 not in left
    assert not any(kind.__module__.startswith("brevitas") for kind in left)


def test_the_float_network_is_left_alone() -> None:
    network = BACKBONES[SMALLEST](4).eval()
    before = copy.deepcopy(network.state_dict())
    quantized = quantize(network, "uint8")
    calibrate(quantized, (None for _ in range(1) if run(quantized, images()) is not None))
    freeze(quantized)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert any(isinstance(m, nn.BatchNorm2d) for m in network.modules())


@pytest.mark.parametrize("activations", FORMATS)
def test_relu6_keeps_its_ceiling(activations: ActivationFormat) -> None:
    """Even where training has let the scale grow past what 6 needs."""
    network = calibrated("mobilenetv2", activations)
    for module in network.modules():
        if isinstance(module, qnn.QuantIdentity):
            with torch.no_grad():
                for parameter in module.act_quant.parameters():
                    parameter.mul_(4)
    first = freeze(network).get_submodule("features.0.2")
    with torch.no_grad():
        got = first(torch.linspace(-20, 20, 500))
    assert float(got.min()) == 0
    assert 5.9 < float(got.max()) <= 6 + 1e-5


def test_biases_fit_beside_weights_that_all_but_vanish() -> None:
    """In units of input scale x weight scale, as devices add them to int32 sums."""
    conv = nn.Conv2d(3, 4, 1)
    with torch.no_grad():
        conv.weight[1] = 1e-12
        conv.weight[2] = 1e-8
        conv.bias.fill_(-2.0)
    pictures = images()
    frozen = freeze(quantize(nn.Sequential(conv), "uint8")).get_submodule("0")
    least_input_scale = 2.0**-10
    assert isinstance(frozen, nn.Conv2d) and frozen.bias is not None
    assert (frozen.bias / (frozen.get_buffer("scales") * least_input_scale)).abs().max() <= 2**30
    with torch.no_grad():
        assert relative_error(frozen(pictures), conv(pictures)) < 0.01


def test_unsigned_quantizers_are_the_relu() -> None:
    frozen = freeze(calibrated("resnet10", "uint8"))
    quantizer = frozen.get_submodule("relu")
    assert isinstance(quantizer, FakeQuantize)
    assert (quantizer.zero_point, quantizer.low, quantizer.high) == (0, 0, 255)
    assert float(quantizer(torch.tensor([-3.0]))) == 0


@pytest.mark.parametrize(("activations", "low", "high"), [("uint8", 0, 255), ("int8", -128, 127)])
def test_formats(activations: ActivationFormat, low: int, high: int) -> None:
    frozen = freeze(calibrated("policy", activations))
    quantizers = [m for m in frozen.modules() if isinstance(m, FakeQuantize)]
    assert {(q.low, q.high) for q in quantizers} == {(low, high)}
    if activations == "int8":
        assert {q.zero_point for q in quantizers} == {0}
    signed = frozen.get_submodule("lstm.h_in")
    assert isinstance(signed, FakeQuantize)
    assert float(signed(torch.tensor([-0.1]))) < 0


@pytest.mark.parametrize("activations", FORMATS)
@pytest.mark.parametrize("name", MAKERS)
def test_training_reaches_weights_and_scales(name: str, activations: ActivationFormat) -> None:
    network = calibrated(name, activations).train()
    run(network, images()).square().mean().backward()
    missing = [n for n, p in network.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert not missing
    scales = [p for n, p in network.named_parameters() if "scaling" in n]
    assert scales and all(p.grad is not None and p.grad.abs().sum() > 0 for p in scales)


def test_training_lowers_the_difference_to_the_teacher() -> None:
    torch.manual_seed(0)
    teacher, student = made("resnet10"), calibrated("resnet10", "uint8")
    with torch.no_grad():  # a bad start to recover from
        for layer in student.modules():
            if isinstance(layer, qnn.QuantLinear):
                layer.weight += 0.1 * torch.randn_like(layer.weight)
        wanted = teacher(images())

    def difference() -> Tensor:
        return (student(images()) - wanted).square().mean()

    before = difference().item()
    optimizer = torch.optim.Adam(student.get_submodule("fc").parameters(), 1e-2)
    for _ in range(15):
        optimizer.zero_grad()
        difference().backward()
        optimizer.step()
    assert difference().item() < 0.5 * before


def test_backbone_survives_as_a_backbone() -> None:
    frozen = freeze(calibrated("mobilenetv2", "uint8"))
    assert isinstance(frozen, Backbone)
    assert frozen.embed(images(2)).shape == (2, 1280)
