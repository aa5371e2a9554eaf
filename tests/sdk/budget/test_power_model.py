"""What other prices would have led to."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtimes.spec import PriceResponse
from sdk.budget.power_model import PowerModel
from sdk.decisions.choosers import LearnedChoice
from sdk.decisions.option_costs import net_costs
from tests.sdk.budgeted_streams import action_space
from tests.sdk.decisions.deciding import choice_of

SPACE = action_space(3)
RUN_J = np.array([0.5, 8, 4, 2, 0, 0, 0, 0])
COSTS = net_costs(SPACE, RUN_J) / 8
PLACES = {option.name: place for place, option in enumerate(SPACE.options)}
RESPONSE = PriceResponse(
    prices=(0.0, 1.0, 3.0), scores=((0,) * 7, (-2, -1, 0, 0, 0, 0, 0), (-3, -2, -1, 0, 0, 0, 0))
)


def told(price: float) -> np.ndarray:
    """The response at a price, by hand."""
    along, rows = np.log1p(price), np.array(RESPONSE.scores)
    return np.array([np.interp(along, np.log1p(RESPONSE.prices), column) for column in rows.T])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**16), st.floats(0, 20), st.floats(0, 20))
def test_the_energy_at_a_price_is_that_of_choosing_at_it(seed: int, made_at: float, price: float) -> None:
    """Decisions made at one price, model at another, by a policy that responds just as expected."""
    untold = np.random.default_rng(seed).normal(0, 2, (12, 7))
    model = PowerModel(SPACE, RESPONSE)
    for number, row in enumerate(untold):
        model.remember(number / 10, row + told(made_at), (), made_at)
    energies, steps = model.energies(COSTS, RUN_J)(np.array([price]))
    chooser = LearnedChoice(SPACE, net_costs(SPACE, RUN_J))
    wanted_j, wanted_steps = 0.0, 0
    for row in untold:
        (option,) = choice_of(chooser, row + told(price), price).options
        wanted_j += RUN_J[0] + RUN_J[1 + PLACES[option.name]]
        wanted_steps += max(option.skip, 1)
    assert energies[0] == pytest.approx(wanted_j) and steps[0] == wanted_steps


def test_power_never_rises_with_the_price_without_a_response() -> None:
    model = PowerModel(SPACE)
    for number, row in enumerate(np.random.default_rng(3).normal(0, 2, (32, 7))):
        model.remember(number / 10, row, ())
    energies, steps = model.energies(COSTS, RUN_J)(np.geomspace(0.01, 50, 40))
    assert (np.diff(energies / steps) <= 1e-9).all() and energies[0] > energies[-1]


def test_old_decisions_are_forgotten() -> None:
    model = PowerModel(SPACE)
    for number in range(200):
        model.remember(number / 10, np.zeros(7), ())
    assert len(model) == 64
    model.remember(90.0, np.zeros(7), ())
    assert len(model) == 4, "however old, a few are kept"


@pytest.mark.parametrize(
    ("prices", "rows"), [((0.0, 1.0), 1), ((1.0, 1.0), 2), ((1.0, 0.5), 2), ((-1.0, 0.5), 2), ((), 0)]
)
def test_responses_that_make_no_sense(prices: tuple[float, ...], rows: int) -> None:
    with pytest.raises(ValueError):
        PriceResponse(prices=prices, scores=((0.0,),) * rows)
