"""How scores become a choice: straight-through Gumbel sampling in training, argmax everywhere else."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from torch.nn import functional


class Sampler(ABC):
    """How scores become a choice: the option of the largest value in each group.

    ``costs`` (A,) of the options, in units of the price's: with the most expensive at 1, the price is
    the score that it must earn more than a zero-cost one.
    """

    def __init__(self, costs: Tensor) -> None:
        self.costs = costs

    def values(self, scores: Tensor, price: Tensor) -> Tensor:
        """The utility of options (B, A), by their scores (B, A) and the price (B,)."""
        return scores - price[:, None] * self.costs

    @abstractmethod
    def pick(self, values: Tensor, options: slice) -> Tensor:
        """One-hot choice (B, n) among the ``options`` of a group, by their ``values``; -inf: unavailable."""

    def __call__(self, scores: Tensor, price: Tensor) -> Tensor:
        """The choice (B, A) in a space of one group."""
        return self.pick(self.values(scores, price), slice(None))


class _GumbelSampler(Sampler):
    def __init__(self, costs: Tensor, temperature: float) -> None:
        super().__init__(costs)
        self.temperature = temperature

    def values(self, scores: Tensor, price: Tensor) -> Tensor:
        noise = -torch.empty_like(scores).exponential_().log()
        return (super().values(scores, price) + noise) / self.temperature

    def pick(self, values: Tensor, options: slice) -> Tensor:
        soft = values.softmax(dim=1)
        hard = torch.zeros_like(soft).scatter_(1, soft.argmax(dim=1, keepdim=True), 1.0)
        return hard - soft.detach() + soft


class _ArgmaxSampler(Sampler):
    def pick(self, values: Tensor, options: slice) -> Tensor:
        order = torch.argsort(self.costs[options], stable=True)
        best = values[:, order].argmax(dim=1)
        return functional.one_hot(order[best], values.shape[1]).to(values)


class _DenseSampler(_ArgmaxSampler):
    def values(self, scores: Tensor, price: Tensor) -> Tensor:
        return self.costs.expand_as(scores)


def gumbel_sampler(temperature: float, costs: Tensor) -> Sampler:
    """Straight-through Gumbel-softmax of ``score - price * cost``.

    A hard random choice forwards, the soft one's gradient backwards.
    """
    return _GumbelSampler(costs, temperature)


def argmax_sampler(costs: Tensor) -> Sampler:
    """The deterministic decision: argmax(score - price * cost), ties to the cheaper option."""
    return _ArgmaxSampler(costs)


def dense_sampler(costs: Tensor) -> Sampler:
    """The most expensive branch of every group, whatever the scores."""
    return _DenseSampler(costs)


def relative_costs(costs: Tensor) -> Tensor:
    """Costs (A,) of options in units of the most expensive one."""
    return costs / costs.max()
