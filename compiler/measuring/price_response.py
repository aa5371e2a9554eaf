"""How a policy's scores change with its price input, for what a budget expects of other prices."""

from __future__ import annotations

import numpy as np

from compiler.measuring.evaluation import Evaluator
from models.policies.conditioning import PRICE_TOP
from runtimes.spec import CostTable, PriceResponse
from sdk.decisions.choosers import LearnedChoice
from sdk.decisions.option_costs import option_costs

PRICES = tuple(np.expm1(np.linspace(0.0, np.log1p(PRICE_TOP), 9)).round(4).tolist())
"""The range that policies are trained for, evenly in the logarithm."""


def price_response(evaluator: Evaluator, table: CostTable) -> PriceResponse:
    """Mean scores over every decision of the evaluator's clips, streamed at each of ``PRICES``."""
    space, costs = evaluator.variant.action_space, option_costs(evaluator.variant, table)
    rows = []
    for price in PRICES:
        chooser = LearnedChoice(space, costs, price)
        steps = (step for clip in evaluator.clips for step in evaluator.roll_out(clip, chooser))
        rows.append(np.mean([step.preferences for step in steps if step.preferences is not None], axis=0))
    scores = np.array(rows) - rows[0]
    return PriceResponse(prices=PRICES, scores=tuple(tuple(row) for row in scores.round(4).tolist()))
