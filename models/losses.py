"""Losses that adaptive models share."""

from __future__ import annotations

import torch
from torch import Tensor


def cost_loss(choices: Tensor, costs: Tensor, present: Tensor, price: Tensor) -> Tensor:
    """Mean cost of the choices, each clip's times its price: at price 1 AR-Net's L_flops.

    ``choices`` (B, T, A) one-hot (all zero at held steps), ``costs`` (A,), ``present`` (B, T) 1 for real
    steps and 0 for padding, ``price`` (B,).
    """
    return ((choices * costs).sum(dim=(1, 2)) * price).sum() / present.sum().clamp(min=1)


def uniform_loss(choices: Tensor) -> Tensor:
    """Distance of the usage histogram from uniform: AR-Net's ||u - mean(u)||_2, against collapse.

    ``choices`` (B, T, A) one-hot, all zero at held steps.
    """
    usage = choices.sum(dim=(0, 1))
    usage = usage / usage.sum().clamp(min=1)
    return torch.linalg.vector_norm(usage - usage.mean())


def exponential_temperature(epoch: float, start: float = 5.0, decay: float = 0.045) -> float:
    """Temperature of the Gumbel-softmax at an epoch: start * exp(-decay * epoch) (AR-Net's schedule)."""
    return float(start * torch.exp(torch.tensor(-decay * epoch)))
