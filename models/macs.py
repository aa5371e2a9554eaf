"""Counting multiply-accumulates of one run of a network (convolutions and linear layers)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import singledispatch
from typing import Any

import torch
from torch import Tensor, nn

from models.policies.policy import StepPolicy
from runtimes.spec import View


def network_macs(network: nn.Module, views: Sequence[View]) -> int:
    """Multiply-accumulates of one run of a branch on its view, or of a policy on its views."""
    images = [torch.zeros(view.frames, view.channels, view.size, view.size) for view in views]
    if isinstance(network, StepPolicy):
        present, conditions = torch.ones(1, network.num_groups), network.no_conditions(1)

        def run() -> None:
            network.advance(
                network.join(network.embed(*images), present), conditions, network.initial_state(1)
            )

        return count_macs(network, run)
    return count_macs(network, lambda: network(*images))


@singledispatch
def macs_per_output(module: nn.Module) -> int:
    """Multiply-accumulates per value of a module's output, by its type; none unless registered here."""
    return 0


@macs_per_output.register
def _(module: nn.Conv2d) -> int:
    return module.weight[0].numel()


@macs_per_output.register
def _(module: nn.Linear) -> int:
    return module.in_features


def count_macs(network: nn.Module, run: Callable[[], Any]) -> int:
    """Multiply-accumulates of every layer inside ``network`` while ``run()`` is called."""
    total = 0

    def count(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        total += output.numel() * macs_per_output(module)

    layers = [module for module in network.modules() if macs_per_output(module)]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    was_training = network.training
    try:
        network.eval()
        with torch.no_grad():
            run()
    finally:
        network.train(was_training)
        for hook in hooks:
            hook.remove()
    return total
