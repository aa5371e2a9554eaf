"""Conditioning inputs of a policy: the price, and how sure the stream's answer is so far."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

PRICE_TOP = 10.0
"""The highest price that policies are trained for; a higher one counts as this."""

_FREE_SHARE = 0.1
"""Of the clips of a batch, how many are trained on at price 0."""
_SUREST = math.log(1000.0)
"""An answer with a probability of 99.9 % counts as certain."""


def draw_prices(count: int, device: torch.device | None = None) -> Tensor:
    """Prices (count,) to train on, 0 to ``PRICE_TOP``: some 0, the others uniform in the logarithm plus 1."""
    along = torch.rand(count, device=device)
    free = torch.rand(count, device=device) < _FREE_SHARE
    return torch.where(free, 0.0, torch.expm1(along * math.log1p(PRICE_TOP)))


def draw_answers(clips: int, steps: int, classes: int, device: torch.device | None = None) -> Tensor:
    """Answers (clips, steps, C) as streams have them: none before a random step, then more or less sure."""
    sureness = 8 * torch.rand(clips, steps, 1, device=device)
    since = torch.randint(steps + 1, (clips, 1, 1), device=device)
    there = torch.arange(steps, device=device)[:, None] >= since
    return (sureness * torch.randn(clips, steps, classes, device=device)).softmax(-1) * there


class Hats(nn.Module):
    """Triangular bumps over [0, 1], ``count`` of them: a linear layer behind them is linear between knots."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        self.register_buffer("knots", torch.arange(count, dtype=torch.float32), persistent=False)
        self.knots: Tensor

    def forward(self, along: Tensor) -> Tensor:
        """(..., count) of values (..., 1); those outside count as the nearest end."""
        return torch.relu(1 - (along.clamp(0, 1) * (self.count - 1) - self.knots).abs())


class PriceCode(nn.Module):
    """The code of a price (..., 1): bumps over its logarithm."""

    size = 5

    def __init__(self) -> None:
        super().__init__()
        self.hats = Hats(self.size)

    @property
    def prices(self) -> tuple[float, ...]:
        """The prices at which one bump stands alone."""
        step = math.log1p(PRICE_TOP) / (self.size - 1)
        return tuple(math.expm1(step * knot) for knot in range(self.size))

    def forward(self, price: Tensor) -> Tensor:
        return self.hats(torch.log(price + 1) / math.log1p(PRICE_TOP))


class AnswerCode(nn.Module):
    """The code of the answer so far: class probabilities (..., C), or zeros where there is none.

    Bumps over how sure the top class is, all zero without an answer; and how concentrated the rest is.
    """

    size = 6

    def __init__(self) -> None:
        super().__init__()
        self.hats = Hats(self.size - 1)

    def forward(self, answer: Tensor) -> Tensor:
        there = answer.sum(dim=-1, keepdim=True)
        surest = answer.amax(dim=-1, keepdim=True)
        sureness = -torch.log(1 - surest.clamp(max=1 - math.exp(-_SUREST))) / _SUREST
        purity = (answer * answer).sum(dim=-1, keepdim=True)
        return torch.cat([self.hats(sureness) * there, purity], dim=-1)
