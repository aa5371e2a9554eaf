"""Choosing the price that a variant is compiled for, on clips that are not the validation clips."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from compiler.evaluate import Evaluator, Outcome, learnt_outcome
from runtimes.spec import CostTable

PRICES = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Prices tried: score that the dearest option must earn more than a free one, whatever its cost in ms."""
_ACCURACY_GIVEN = 0.005
_LIKELIHOOD_GIVEN = 0.02


def prices_per_ms(option_costs_ms: Sequence[float]) -> list[float]:
    """``PRICES`` per ms of these options' costs."""
    return [price / max(option_costs_ms) for price in PRICES]


def choose_price(evaluator: Evaluator, table: CostTable) -> float:
    """The highest price that costs next to nothing in accuracy on the evaluator's clips, in score per ms.

    Given up at most are half a point of accuracy and 0.02 of the mean log-likelihood of the right label,
    which tells the nearing of mistakes before there are any.
    """
    outcomes = [
        learnt_outcome(evaluator, table, price, f"price {price:g}")
        for price in prices_per_ms(evaluator.costs(table))
    ]
    free = outcomes[0]
    good = [i for i, outcome in enumerate(outcomes) if _as_good(outcome, free)]
    return prices_per_ms(evaluator.costs(table))[max(good)]


def _as_good(outcome: Outcome, free: Outcome) -> bool:
    accuracy = outcome.accuracy >= free.accuracy - _ACCURACY_GIVEN
    return accuracy and _log_likelihood(outcome) >= _log_likelihood(free) - _LIKELIHOOD_GIVEN


def _log_likelihood(outcome: Outcome) -> float:
    return float(np.log(np.maximum(outcome.confidence, 1e-6)).mean())
