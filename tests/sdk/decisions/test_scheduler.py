"""The choice, the held steps, and the fusion."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.errors import AdaptiveVideoError
from runtimes.spec import ActionSpace, CostTable, GraphCost, Group, Option, Variant, ViewCost
from sdk.decisions.scheduler import (
    Chooser,
    Decision,
    FixedChoice,
    Fusion,
    LearntChoice,
    RandomChoice,
    Scheduler,
    choose,
    option_costs,
)
from tests.runtimes.bundles import cost_table, manifest_fields


def branch(name: str) -> Option:
    return Option(name=name, graph="net", view="rgb84", precision="int8")


LARGE, SMALL, SKIP2, SKIP4 = (
    branch("large"),
    branch("small"),
    Option(name="skip2", skip=2),
    Option(name="skip4", skip=4),
)
SPACE = ActionSpace(groups=(Group(name="step", options=(LARGE, SMALL, SKIP2, SKIP4)),))
COSTS = np.array([8.0, 2.0, 0.0, 0.0])
SIX = st.lists(st.integers(-3, 3), min_size=4, max_size=4)


def pick(scores: list[float], price: float = 0.0, allow_skip: bool = True) -> str:
    return choose(np.array(scores), SPACE, COSTS, price, allow_skip)[0].name


def test_largest_score_at_no_price() -> None:
    assert pick([3, 2, 1, 0]) == "large"


def test_price_weighs_cost() -> None:
    """Relative to the dearest option's: large costs 1, small a quarter."""
    assert pick([3, 2, -9, -9], price=1.3) == "large"
    assert pick([3, 2, -9, -9], price=1.4) == "small"


def test_only_ratios_of_costs_count() -> None:
    for scale in (1e-3, 1.0, 1e3):
        chooser = LearntChoice(SPACE, COSTS * scale)
        assert chooser.decide(np.array([3, 2, -9, -9]), 1.3, True).options == (LARGE,)
        assert chooser.decide(np.array([3, 2, -9, -9]), 1.4, True).options == (SMALL,)


def test_costs_may_change() -> None:
    chooser = LearntChoice(SPACE, COSTS)
    chooser.recost(np.array([8.0, 7.0, 0.0, 0.0]))
    assert chooser.decide(np.array([3, 2, -9, -9]), 1.4, True).options == (LARGE,)


def test_a_skip_that_saves_runs_of_the_policy_wins_at_a_high_price() -> None:
    costs = np.array([8.0, 2.0, -1.0, -3.0])
    assert choose(np.array([5, 4, 3, 0]), SPACE, costs, 0.0, True) == (LARGE,)
    assert choose(np.array([5, 4, 3, 0]), SPACE, costs, 20.0, True) == (SKIP4,)


def test_ties_go_to_the_cheaper_then_to_the_earlier() -> None:
    assert pick([1, 1, 0, 0]) == "small"
    assert pick([0, 0, 1, 1]) == "skip2"


TWO_GRAPHS = ActionSpace(
    groups=(
        Group(
            name="step",
            options=(
                Option(name="wide", graph="net-8", view="rgb84", precision="int8"),
                Option(name="narrow", graph="net-4", view="rgb84", precision="int8"),
                SKIP2,
            ),
        ),
    )
)


@pytest.mark.parametrize(
    "make", [lambda space: LearntChoice(space, np.zeros(3)), lambda s: RandomChoice(s, 1)]
)
def test_absent_graphs_are_not_on_offer_until_they_come(make: Callable[[ActionSpace], Chooser]) -> None:
    chooser, scores = make(TWO_GRAPHS), np.array([9.0, 1.0, 0.0])
    chooser.offer({"net-8"})
    assert chooser.options == TWO_GRAPHS.options
    seen = {chooser.decide(scores, 0.0, False).options[0].name for _ in range(30)}
    assert seen == {"narrow"}
    chooser.offer(())
    assert "wide" in {chooser.decide(scores, 0.0, False).options[0].name for _ in range(30)}
    with pytest.raises(AdaptiveVideoError, match=r"group step: none of its graphs \(net-4, net-8\) is there"):
        chooser.offer({"net-8", "net-4"})


def test_scores_keep_their_places_when_a_graph_is_absent() -> None:
    chooser = LearntChoice(TWO_GRAPHS, np.array([8.0, 2.0, 0.0]))
    chooser.offer({"net-8"})
    assert chooser.decide(np.array([9.0, 1.0, 0.9]), 0.8, True).options[0].name == "skip2"
    assert chooser.decide(np.array([9.0, 1.2, 0.9]), 0.8, True).options[0].name == "narrow"


def test_fixed_option_that_is_absent() -> None:
    chooser = FixedChoice(arnet(), "rgb224")
    chooser.offer({"net-8"})
    with pytest.raises(AdaptiveVideoError, match="option rgb224: its graph net-int8 is not there"):
        chooser.offer({"net-int8"})


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


def scheduler() -> Scheduler:
    return Scheduler(LearntChoice(SPACE, COSTS))


def test_the_first_decision_gives_an_output() -> None:
    stream = scheduler()
    assert stream.decide(np.array([0, 1, 2, 3]), 0.0) == (SMALL,)
    assert not stream.idle()
    assert stream.decide(np.array([0, 1, 2, 3]), 0.0) == (SKIP4,)


def test_skip_holds_the_steps_after_it() -> None:
    stream = scheduler()
    stream.decide(np.array([1, 0, 0, 0]), 0.0)
    stream.decide(np.array([0, 0, 0, 1]), 0.0)
    assert [stream.idle() for _ in range(5)] == [True, True, True, False, False]


def test_reset_forgets_held_steps_and_the_first_output() -> None:
    stream = scheduler()
    stream.decide(np.array([1, 0, 0, 0]), 0.0)
    stream.decide(np.array([0, 0, 0, 1]), 0.0)
    stream.reset()
    assert not stream.idle()
    assert stream.decide(np.array([0, 0, 0, 1]), 0.0) == (SMALL,)


def test_a_skip_beside_a_branch_holds_nothing() -> None:
    space = ActionSpace(groups=(SPACE.groups[0], SPACE.groups[0]))
    stream = Scheduler(LearntChoice(space, np.tile(COSTS, 2)))
    stream.decide(np.ones(8), 0.0)
    assert stream.decide(np.array([0, 0, 0, 1, 1, 0, 0, 0]), 0.0) == (SKIP4, LARGE)
    assert not stream.idle()
    assert stream.decide(np.array([0, 0, 0, 1, 0, 0, 1, 0]), 0.0) == (SKIP4, SKIP2)
    assert [stream.idle(), stream.idle()] == [True, False]


def arnet() -> Variant:
    return manifest_fields()["variants"][1]  # type: ignore[no-any-return]


def test_fixed_choice_runs_at_every_nth_step() -> None:
    stream = Scheduler(FixedChoice(arnet(), "rgb112", every=3))
    ran = []
    for _ in range(7):
        held = stream.idle()
        if not held:
            assert stream.decide(None, 0.0)[0].name == "rgb112"
        ran.append(not held)
    assert ran == [True, False, False, True, False, False, True]


def test_fixed_choice_needs_the_policy_for_its_own_head_only() -> None:
    assert FixedChoice(arnet(), "head").runs_policy
    assert not FixedChoice(arnet(), "rgb224").runs_policy


@pytest.mark.parametrize(("option", "every"), [("rgb999", 1), ("skip4", 1), ("rgb224", 0)])
def test_fixed_choice_refuses(option: str, every: int) -> None:
    with pytest.raises(AdaptiveVideoError, match="use"):
        FixedChoice(arnet(), option, every)


def test_random_choice_repeats_after_reset() -> None:
    chooser = RandomChoice(SPACE, seed=3)
    first: list[Decision] = [chooser.decide(None, 0.0, True) for _ in range(50)]
    chooser.reset()
    assert first == [chooser.decide(None, 0.0, True) for _ in range(50)]
    assert {option.name for decision in first for option in decision.options} == {
        "large",
        "small",
        "skip2",
        "skip4",
    }
    assert not any(chooser.decide(None, 0.0, False).held for _ in range(50))


def test_option_costs() -> None:
    # rgb224: 8 + 0.1 to resize; rgb84 is the policy's own view, rendered anyway; its head is free; a skip
    # of 4 saves three runs of the policy, 0.5 + 0.1 each.
    np.testing.assert_allclose(option_costs(arnet(), cost_table()), [8.1, 2.1, 1.0, 0, -1.8])


def test_option_costs_of_an_incomplete_table() -> None:
    table = CostTable(
        device="x",
        providers=(),
        threads=1,
        graphs=(GraphCost(graph="net-int8", view="rgb84", p50_ms=1, p95_ms=1),),
        views=(ViewCost(view="rgb84", p50_ms=1, p95_ms=1),),
    )
    with pytest.raises(KeyError, match="policy"):
        option_costs(arnet(), table)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def test_fusion_before_any_output() -> None:
    assert Fusion(4).update(None) is None


@given(
    st.integers(1, 6),
    st.lists(st.one_of(st.none(), st.lists(st.floats(-20, 20), min_size=3, max_size=3)), max_size=30),
)
def test_fusion_is_the_softmax_of_the_windows_mean(window: int, steps: list[list[float] | None]) -> None:
    fusion = Fusion(window)
    expected: np.ndarray | None = None
    for index, logits in enumerate(steps):
        scores = fusion.update(None if logits is None else np.array(logits))
        inside = [step for step in steps[max(0, index + 1 - window) : index + 1] if step is not None]
        if inside:
            expected = softmax(np.mean(inside, axis=0))
        if expected is None:
            assert scores is None
        else:
            np.testing.assert_allclose(scores, expected, atol=1e-12)


def test_what_was_switched_to_stays_among_the_options() -> None:
    """Or it would be closed when a partial bundle is looked at again."""
    chooser = FixedChoice(arnet(), "rgb224")
    chooser.switch("rgb112")
    assert chooser.option == "rgb112"
    assert [option.name for option in chooser.options] == ["rgb224", "rgb112"]
    chooser.offer(())
    assert chooser.option == "rgb112"
