"""Batch norms at lower widths pass on what they pass on in float."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from models.backbones.blocks import Backbone
from models.backbones.registry import BACKBONES
from models.layers.nested_layers import SwitchableNorm, set_width
from models.layers.nesting import calibrate, estimate_norms, nest
from models.layers.norm_statistics import match_moments, moments_before

WIDTHS = (32, 8, 2)


def images(seed: int) -> Tensor:
    return torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def runs(network: nn.Module) -> Iterator[None]:
    for seed in range(4):
        network(images(seed))
        yield


def folded(name: str) -> Backbone:
    """As a network comes whose batch norms were folded away: means of 0, variances of 1, offsets."""
    torch.manual_seed(0)
    network = BACKBONES[name](5).eval()
    for norm in (module for module in network.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.bias.data.normal_(0.3, 0.5)
    return network


def passed_on(network: nn.Module, width: int) -> list[tuple[Tensor, Tensor]]:
    """Mean and deviation of every channel behind each norm."""
    set_width(network, width)
    outputs: dict[nn.Module, list[Tensor]] = {}
    switchable = [module for module in network.modules() if isinstance(module, SwitchableNorm)]
    hooks = [
        module.register_forward_hook(lambda m, _, y: outputs.setdefault(m, []).append(y.detach().clone()))
        for module in switchable
    ]
    with torch.no_grad():
        for _ in runs(network.eval()):
            pass
    for hook in hooks:
        hook.remove()
    values = [torch.cat(outputs[module]) for module in switchable]
    return [(value.mean((0, 2, 3)), value.std((0, 2, 3))) for value in values]


def distance(network: nn.Module, width: int) -> float:
    """How far means are from those in float, in deviations in float: the mean over channels and layers."""
    pairs = zip(passed_on(network, width), passed_on(network, 32), strict=True)
    apart = [((mean - wanted).abs() / (spread + 1e-2)).mean() for (mean, _), (wanted, spread) in pairs]
    return float(torch.stack(apart).mean())


def test_matching_moments_makes_outputs_alike() -> None:
    """One norm, given at last five times what it was given before and something on top."""
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(3).eval()
    norm.weight.data.uniform_(0.5, 2)
    norm.bias.data.normal_()
    inputs = torch.randn(16, 3, 8, 8) * torch.tensor([1.0, 3.0, 0.1]).view(1, 3, 1, 1)

    def run(x: Tensor) -> Iterator[None]:
        norm(x)
        yield

    wanted = moments_before([norm], run(inputs))
    before = norm(inputs)
    match_moments([norm], wanted, run(5 * inputs + 2))
    assert torch.allclose(norm(5 * inputs + 2), before, atol=2e-3)
    assert not norm.training


def test_a_dead_channel_stays_as_it_is() -> None:
    norm = nn.BatchNorm2d(1).eval()
    zeros = torch.zeros(4, 1, 2, 2)

    def run() -> Iterator[None]:
        norm(zeros)
        yield

    match_moments([norm], moments_before([norm], run()), run())
    assert float(norm.running_mean) == 0 and float(norm.running_var) == pytest.approx(1)


@pytest.mark.parametrize("name", ["resnet10", "mobilenetv2"])
def test_low_widths_pass_on_what_float_does(name: str) -> None:
    network = nest(folded(name), WIDTHS)
    floats = [m.norms["32"].running_var.clone() for m in network.modules() if isinstance(m, SwitchableNorm)]
    calibrate(network, WIDTHS, lambda: runs(network))
    before = distance(network, 2)
    again = nest(folded(name), WIDTHS)
    estimate_norms(again, WIDTHS, lambda: runs(again))
    calibrate(again, WIDTHS, lambda: runs(again))
    assert distance(again, 2) < 0.5 * before
    kept = [m.norms["32"].running_var for m in again.modules() if isinstance(m, SwitchableNorm)]
    assert all(torch.equal(now, then) for now, then in zip(kept, floats, strict=True))
