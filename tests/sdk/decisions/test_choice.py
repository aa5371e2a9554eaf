"""The choice by scores: prices, ties, skips that are not allowed."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from runtimes.spec import ActionSpace
from sdk.decisions.choice import decide
from sdk.decisions.choosers import LearnedChoice
from sdk.decisions.decision import Context, Limit, Plan
from sdk.decisions.option_costs import OptionCosts
from tests.sdk.decisions.deciding import COSTS, LARGE, SKIP4, SMALL, SPACE, choice_of, choose

SIX = st.lists(st.integers(-3, 3), min_size=4, max_size=4)


def pick(scores: list[float], price: float = 0.0, allow_skip: bool = True) -> str:
    return choose(np.array(scores), SPACE, COSTS, price, allow_skip)[0].name


def test_largest_score_at_no_price() -> None:
    assert pick([3, 2, 1, 0]) == "large"


def test_price_weighs_cost() -> None:
    """Relative to the most expensive option's: large costs 1, small a quarter."""
    assert pick([3, 2, -9, -9], price=1.3) == "large"
    assert pick([3, 2, -9, -9], price=1.4) == "small"


def test_only_ratios_of_costs_count() -> None:
    for scale in (1e-3, 1.0, 1e3):
        chooser = LearnedChoice(SPACE, COSTS * scale)
        assert choice_of(chooser, np.array([3, 2, -9, -9]), 1.3, True).options == (LARGE,)
        assert choice_of(chooser, np.array([3, 2, -9, -9]), 1.4, True).options == (SMALL,)


def test_a_plan_brings_its_costs() -> None:
    plan = Plan(1.4, OptionCosts.of(SPACE, np.array([8.0, 7.0, 0.0, 0.0])))
    assert LearnedChoice(SPACE, COSTS).decide(np.array([3, 2, -9, -9]), plan, Context()).options == (LARGE,)


def test_a_limit_is_kept_by_a_higher_price() -> None:
    scores, costs = np.array([3.0, 2, -9, -9]), OptionCosts.of(SPACE, COSTS)
    takes = {"large": 8.0, "small": 2.0}
    for left, chosen in ((9.0, "large"), (3.0, "small"), (1.0, "skip2")):
        decision = decide(scores, Plan(0.0, costs, (Limit(left, takes),)), Context())
        assert (decision.name, decision.price) == (chosen, 0.0)
    tight = Plan(0.0, costs, (Limit(1.0, takes),))
    assert decide(scores, tight, Context(allow_skip=False)).options == (SMALL,)


def test_a_skip_that_saves_runs_of_the_policy_wins_at_a_high_price() -> None:
    costs = np.array([8.0, 2.0, -1.0, -3.0])
    assert choose(np.array([5, 4, 3, 0]), SPACE, costs, 0.0, True) == (LARGE,)
    assert choose(np.array([5, 4, 3, 0]), SPACE, costs, 20.0, True) == (SKIP4,)


def test_ties_go_to_the_cheaper_then_to_the_earlier() -> None:
    assert pick([1, 1, 0, 0]) == "small"
    assert pick([0, 0, 1, 1]) == "skip2"


def test_skips_are_not_offered_unless_allowed() -> None:
    assert pick([0, 1, 5, 9], allow_skip=False) == "small"


@given(SIX, SIX, st.floats(0, 10))
def test_choice_is_the_best_of_each_group(first: list[int], second: list[int], price: float) -> None:
    space = ActionSpace(groups=(SPACE.groups[0], SPACE.groups[0]))
    costs = np.tile(COSTS, 2)
    chosen = choose(np.array(first + second, np.float32), space, costs, price, allow_skip=True)
    for scores, option in zip((first, second), chosen, strict=True):
        values = [score - price * cost for score, cost in zip(scores, (COSTS / 8).tolist(), strict=True)]
        assert values[space.groups[0].options.index(option)] == max(values)


@given(SIX, st.floats(0, 10), st.floats(0, 10))
def test_a_higher_price_never_buys_a_dearer_option(scores: list[int], price: float, more: float) -> None:
    def cost(at: float) -> float:
        option = choose(np.array(scores), SPACE, COSTS, at, allow_skip=True)[0]
        return float(COSTS[SPACE.groups[0].options.index(option)])

    assert cost(price + more) <= cost(price)
