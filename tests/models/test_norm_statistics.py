"""Batch norms' statistics: their own without changing anything, and others at other widths."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from models.backbones.blocks import Backbone
from models.nested import SwitchableNorm, estimate_norms, nest, set_width
from models.norm_statistics import own_statistics
from models.registry import BACKBONES


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
    for norm in norms(network):
        norm.bias.data.normal_(0.3, 0.5)
    return network


def norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.mark.parametrize("name", ["resnet10", "mobilenetv2"])
def test_own_statistics_change_nothing(name: str) -> None:
    network = folded(name)
    with torch.no_grad():
        before = network(images(9))
        own_statistics(network, runs(network))
        assert torch.allclose(network(images(9)), before, atol=1e-4 * float(before.abs().max()))
    assert not network.training


def test_own_statistics_are_those_of_what_is_seen() -> None:
    network = folded("resnet10")
    first = norms(network)[0]
    own_statistics(network, runs(network))
    with torch.no_grad():
        seen = torch.cat([network.get_submodule("conv1")(images(seed)) for seed in range(4)])
    assert torch.allclose(first.running_mean, seen.mean((0, 2, 3)), atol=1e-4)
    assert torch.allclose(first.running_var, seen.var((0, 2, 3), correction=0), rtol=1e-3)


def test_norms_of_low_widths_are_estimated_and_floats_kept() -> None:
    network = nest(folded("mobilenetv2"), (32, 8, 2))
    switchable = [module for module in network.modules() if isinstance(module, SwitchableNorm)]
    at = {width: [module.norms[str(width)].running_var.clone() for module in switchable] for width in (32, 2)}
    estimate_norms(network, (32, 8, 2), lambda: runs(network))
    assert all(torch.equal(m.norms["32"].running_var, old) for m, old in zip(switchable, at[32], strict=True))
    changed = [
        not torch.allclose(m.norms["2"].running_var, o) for m, o in zip(switchable, at[2], strict=True)
    ]
    assert sum(changed) > len(changed) // 2
    assert not any(norm.training for norm in norms(network))


def test_estimated_norms_bring_activations_back_to_their_scale() -> None:
    """With the float network's statistics activations drift at 2 bits; with their own they do not."""
    network = folded("mobilenetv2")
    own_statistics(network, runs(network))
    nested = nest(network, (32, 2))
    set_width(nested, 2)
    middle = [module for module in nested.modules() if isinstance(module, SwitchableNorm)][25]
    outputs: list[Tensor] = []
    middle.register_forward_hook(lambda _, __, output: outputs.append(output.detach().clone()))

    def distance() -> float:
        """How far channels' means are from what a norm of these frames makes them, in its deviations."""
        outputs.clear()
        with torch.no_grad():
            for _ in runs(nested.eval()):
                pass
            off = torch.cat(outputs).mean((0, 2, 3)) - middle.norm().bias
            return float((off.abs() / middle.norm().weight.abs()).mean())

    before = distance()
    estimate_norms(nested, (32, 2), lambda: runs(nested))
    assert distance() < 0.25 < before
