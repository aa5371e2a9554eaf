"""Choosers: learned, fixed and random; graphs that are absent."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from runtimes.bundle import Bundle
from runtimes.errors import AdaptiveVideoError
from runtimes.spec import ActionSpace, Group, Option
from sdk.decisions.choosers import Chooser, FixedChoice, LearnedChoice, RandomChoice
from sdk.decisions.decision import Decision
from sdk.streaming.variant_costs import VariantCosts
from tests.sdk.decisions.deciding import SKIP2, SPACE, arnet, choice_of

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
    "make", [lambda space: LearnedChoice(space, np.zeros(3)), lambda s: RandomChoice(s, 1)]
)
def test_absent_graphs_are_not_on_offer_until_they_come(make: Callable[[ActionSpace], Chooser]) -> None:
    chooser, scores = make(TWO_GRAPHS), np.array([9.0, 1.0, 0.0])
    chooser.set_absent_graphs({"net-8"})
    assert chooser.options == TWO_GRAPHS.options
    seen = {choice_of(chooser, scores, 0.0, False).options[0].name for _ in range(30)}
    assert seen == {"narrow"}
    chooser.set_absent_graphs(())
    assert "wide" in {choice_of(chooser, scores, 0.0, False).options[0].name for _ in range(30)}
    with pytest.raises(AdaptiveVideoError, match=r"group step: none of its graphs \(net-4, net-8\) is there"):
        chooser.set_absent_graphs({"net-8", "net-4"})


def test_scores_keep_their_places_when_a_graph_is_absent() -> None:
    chooser = LearnedChoice(TWO_GRAPHS, np.array([8.0, 2.0, 0.0]))
    chooser.set_absent_graphs({"net-8"})
    assert choice_of(chooser, np.array([9.0, 1.0, 0.9]), 0.8, True).options[0].name == "skip2"
    assert choice_of(chooser, np.array([9.0, 1.2, 0.9]), 0.8, True).options[0].name == "narrow"


def test_fixed_option_that_is_absent() -> None:
    chooser = FixedChoice(arnet(), "rgb224")
    chooser.set_absent_graphs({"net-8"})
    with pytest.raises(AdaptiveVideoError, match="option rgb224: its graph net-int8 is not there"):
        chooser.set_absent_graphs({"net-int8"})


def test_fixed_choice_needs_the_policy_for_its_own_head_only() -> None:
    assert FixedChoice(arnet(), "head").runs_policy
    assert not FixedChoice(arnet(), "rgb224").runs_policy


@pytest.mark.parametrize(("option", "every"), [("rgb999", 1), ("skip4", 1), ("rgb224", 0)])
def test_fixed_choice_refuses(option: str, every: int) -> None:
    with pytest.raises(AdaptiveVideoError, match="use"):
        FixedChoice(arnet(), option, every)


@pytest.mark.parametrize("policy", [True, False])
def test_a_random_choice_is_made_at_every_step(bundle: Bundle, policy: bool) -> None:
    variant = arnet() if policy else arnet().model_copy(update={"policy": None})
    costs = VariantCosts(bundle, variant, None)
    with pytest.raises(AdaptiveVideoError, match="every 2: is for a fixed option"):
        costs.chooser(None, None, 2, random_seed=1)


def test_random_choice_repeats_after_reset() -> None:
    chooser = RandomChoice(SPACE, seed=3)
    first: list[Decision] = [choice_of(chooser, None, 0.0, True) for _ in range(50)]
    chooser.reset()
    assert first == [choice_of(chooser, None, 0.0, True) for _ in range(50)]
    assert {option.name for decision in first for option in decision.options} == {
        "large",
        "small",
        "skip2",
        "skip4",
    }
    assert not any(choice_of(chooser, None, 0.0, False).holds for _ in range(50))


def test_what_was_switched_to_stays_among_the_options() -> None:
    """Or it would be closed when a partial bundle is looked at again."""
    chooser = FixedChoice(arnet(), "rgb224")
    chooser.switch("rgb112")
    assert chooser.option == "rgb112"
    assert [option.name for option in chooser.options] == ["rgb224", "rgb112"]
    chooser.set_absent_graphs(())
    assert chooser.option == "rgb112"
