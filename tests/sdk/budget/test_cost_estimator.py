"""Costs learned from spans: their common factor, each one's own, the meter's lag, and what is not theirs."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sdk.budget.cost_estimator import CostEstimator
from sdk.budget.metered_energy import LAGS_S, Span

TRUE_J = np.array([0.01, 0.5, 0.2, 0.08, 0.0])
TABLE = np.array([0.5, 8.0, 4.0, 2.0, 0.0])
RUN_S = np.array([0.001, 0.02, 0.01, 0.005, 0.0])
IDLE_W = 1.0
Floats = NDArray[np.float64]


def spans(count: int, seed: int = 0, noise: float = 0.0, lag: int = 0) -> list[Span]:
    """A second each, in which ten options ran, at random; the meter tells of them so many lags late."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        runs = np.zeros((len(LAGS_S), 5))
        runs[:, 0] = 10
        for row in runs:
            row[1:] = random.multinomial(10, random.dirichlet(np.full(4, 0.5)))
        energy_j = IDLE_W + float(TRUE_J @ runs[lag])
        made.append(Span(1.0, runs, energy_j * (1 + noise * random.standard_normal())))
    return made


@pytest.mark.parametrize("lag", range(len(LAGS_S)))
def test_costs_and_lag_are_found(lag: int) -> None:
    costs = CostEstimator(TABLE, RUN_S)
    for span in spans(40, lag=lag, noise=0.01):
        costs.observe(span)
    assert costs.lag_s == LAGS_S[lag]
    np.testing.assert_allclose(costs.energies_j[1:4], TRUE_J[1:4], rtol=0.1, atol=0.03)
    # The policy runs at every step: it cannot be told from the rest.
    assert costs.base_w + 10 * costs.energies_j[0] == pytest.approx(IDLE_W + 10 * TRUE_J[0], abs=0.25)


def test_one_option_tells_of_the_others() -> None:
    """Only the first two ever run; the third is priced by the factor that all share."""
    costs = CostEstimator(TABLE, RUN_S)
    for second in range(20):
        runs = np.zeros((len(LAGS_S), 5))
        runs[:, 0], runs[:, 1 + second % 2] = 10, 10
        costs.observe(Span(1.0, runs, 1.0 + 10 * (0.01 + 0.0625 * TABLE[1 + second % 2])))
    assert costs.energies_j[3] == pytest.approx(0.0625 * TABLE[3], rel=0.1)
    assert costs.energies_j[4] == 0.0


def same(count: int, runs_of_first: float, energy_j: float) -> list[Span]:
    runs = np.zeros((len(LAGS_S), 5))
    runs[:, 0], runs[:, 1] = 10, runs_of_first
    return [Span(1.0, runs, energy_j)] * count


def test_a_load_is_no_cost() -> None:
    """The power doubles while the same runs: that is something else, and known at once."""
    costs = CostEstimator(TABLE, RUN_S)
    for span in spans(30):
        costs.observe(span)
    steady = IDLE_W + 10 * (0.01 + 0.5)
    for span in same(5, 10, steady):
        costs.observe(span)
    before = costs.energies_j.copy()
    assert [costs.observe(span) for span in same(3, 10, 2 * steady)] == [True, False, False]
    np.testing.assert_allclose(costs.energies_j, before, rtol=0.02)
    assert costs.base_w == pytest.approx(IDLE_W + steady, rel=0.05)


def test_the_tables_energies_are_the_prior() -> None:
    costs = CostEstimator(TRUE_J * 1e3, RUN_S, in_mj=True)
    np.testing.assert_allclose(costs.energies_j, TRUE_J)
    for span in same(10, 10, IDLE_W + 10 * (0.01 + 0.5)):
        costs.observe(span)
    np.testing.assert_allclose(costs.energies_j, TRUE_J, rtol=0.05)
    assert costs.base_w == pytest.approx(IDLE_W, rel=0.05)


def test_noise_frees_nothing() -> None:
    costs = CostEstimator(TABLE, RUN_S)
    for span in spans(60, seed=3, noise=0.5):
        costs.observe(span)
    assert (costs.energies_j[:4] > 0).all() and costs.base_w >= 0


def test_nothing_ran() -> None:
    costs = CostEstimator(TABLE, RUN_S)
    assert not costs.known
    for _ in range(3):
        costs.observe(Span(1.0, np.zeros((len(LAGS_S), 5)), IDLE_W))
    assert costs.known and costs.base_w == pytest.approx(IDLE_W)
