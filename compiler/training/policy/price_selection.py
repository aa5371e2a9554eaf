"""Choosing the price that a model is compiled for, on clips that are not the validation clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from compiler.data.batches import OutputBatch
from models.rollout.adaptive_model import AdaptiveModel
from models.rollout.sampling import argmax_sampler, relative_costs

PRICES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 1.0, 1.2, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0)
"""Prices tried: the score that the most expensive option must earn more than a free one."""
_ACCURACY_GIVEN = 0.005
_LIKELIHOOD_GIVEN = 0.02
_SAVING_GIVEN = 0.05
_MARGIN = 0.5


@dataclass(frozen=True)
class PricePoint:
    """What a price gives: accuracy, log-likelihood of the target, cost in most expensive options a clip."""

    price: float
    accuracy: float
    log_likelihood: float
    cost: float


def price_curve(model: AdaptiveModel, outputs: OutputBatch, costs: Tensor) -> list[PricePoint]:
    """Every price of ``PRICES`` on clips whose outputs were computed; ``costs`` (A,) in any unit."""
    relative = relative_costs(costs)
    model.eval()
    curve = []
    for price in PRICES:
        with torch.no_grad():
            rollout = model.rollout(
                outputs["features"],
                outputs["branches"],
                outputs["present"],
                argmax_sampler(relative),
                outputs.get("available"),
                price,
            )
        right = rollout.logits.argmax(dim=1) == outputs["label"]
        loss = functional.cross_entropy(rollout.logits, outputs.get("target", outputs["label"]))
        cost = (rollout.choices * relative).sum() / len(right)
        curve.append(PricePoint(price, float(right.float().mean()), -float(loss), float(cost)))
    return curve


def best_price(curve: Sequence[PricePoint]) -> float:
    """The least price that saves nearly all that can be saved for next to nothing in accuracy.

    Given up at most are half a point of accuracy and 0.02 of the log-likelihood, which tells the nearing
    of mistakes before there are any; and 5 % of the cost at no price, as the last of the saving asks for
    prices far out. No more than half the highest price that seems to cost nothing: the clips to judge by are
    few, and what follows is steep.
    """
    free = curve[0]
    harmless = [
        entry
        for entry in curve
        if entry.accuracy >= free.accuracy - _ACCURACY_GIVEN
        and entry.log_likelihood >= free.log_likelihood - _LIKELIHOOD_GIVEN
    ]
    enough = min(entry.cost for entry in harmless) + _SAVING_GIVEN * abs(free.cost)
    saving = min(entry.price for entry in harmless if entry.cost <= enough)
    return min(saving, _MARGIN * max(entry.price for entry in harmless))
