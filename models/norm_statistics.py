"""Statistics of batch norms: a pretrained network's own, and those at another bit-width."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


class _Moments:
    """Mean and variance per channel (C,) of all that was seen."""

    def __init__(self) -> None:
        self.count, self.total, self.squares = 0, torch.zeros(()), torch.zeros(())

    def add(self, x: Tensor) -> None:
        """Take in activations (N, C, H, W)."""
        channels = x.detach().double().transpose(0, 1).flatten(1)
        self.count += channels.shape[1]
        self.total = self.total + channels.sum(1)
        self.squares = self.squares + channels.square().sum(1)

    def result(self) -> tuple[Tensor, Tensor]:
        """Mean and variance, float (C,)."""
        mean = self.total / self.count
        return mean.float(), (self.squares / self.count - mean.square()).clamp(min=0).float()


def own_statistics(network: nn.Module, run: Iterable[None]) -> None:
    """Give every batch norm the statistics of what it sees, and an affine part so that nothing else changes.

    A network that comes with its norms folded away has means of 0 and variances of 1: they say nothing, and
    at another width they cannot be estimated anew while the affine part stays. ``run`` runs the network.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    seen = {norm: _Moments() for norm in norms}
    hooks = [norm.register_forward_pre_hook(lambda norm, inputs: seen[norm].add(inputs[0])) for norm in norms]
    network.eval()
    try:
        with torch.no_grad():
            for _ in run:
                pass
    finally:
        for hook in hooks:
            hook.remove()
    for norm in norms:
        _restate(norm, *seen[norm].result())


def _restate(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor) -> None:
    """The same function in evaluation, with other statistics."""
    assert norm.running_mean is not None and norm.running_var is not None
    with torch.no_grad():
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        norm.bias.add_(gain * (mean - norm.running_mean))
        norm.weight.copy_(gain * torch.sqrt(variance + norm.eps))
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)


def estimate_statistics(network: nn.Module, norms: Sequence[nn.BatchNorm2d], run: Iterable[None]) -> None:
    """Set the statistics of ``norms`` to the mean over the batches of ``run`` (it runs the network).

    Each normalises by its batch meanwhile, so that what it passes on is as it will be.
    """
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    with torch.no_grad():
        for batch, _ in enumerate(run, start=1):
            for norm in norms:
                norm.momentum = 1.0 / (batch + 1)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()
