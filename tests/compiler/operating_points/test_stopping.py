"""Stop rules: fitted on answers, later only at lower prices, and nothing but margins."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.operating_points.stopping import (
    NEVER,
    agreements,
    falling,
    fit_rules,
    margins,
    stopped_after,
)
from runtimes.spec import StopRule

PRICES = (0.0, 0.01, 0.05, 0.2, 1.0)


def course(seed: int, clips: int = 200, looks: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores after each look, the probability of class 0 (the true one), and the costs so far."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(size=(clips, looks, 3)).cumsum(axis=1)
    logits[..., 0] += draw.gamma(1.0, 1.0, size=(clips, 1)) * np.arange(1, looks + 1)
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    scores = powers / powers.sum(axis=-1, keepdims=True)
    costs = np.tile(np.arange(1, looks + 1) / looks, (clips, 1))
    return scores, scores[..., 0], costs


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**16))
def test_a_higher_price_never_stops_later(seed: int) -> None:
    scores, true, costs = course(seed)
    rules = fit_rules(scores, true, costs, PRICES)
    exits = [stopped_after(rule, scores) for rule in rules]
    for low, high in pairwise(exits):
        assert (high <= low).all()
    assert exits[-1].mean() < 0.5 * (scores.shape[1] - 1), (
        "at such a price few clips are looked at to the end"
    )


def test_a_rule_saves_where_clips_are_easy_and_gives_up_little() -> None:
    scores, true, costs = course(7, clips=2000)
    fit, judged = slice(0, 1000), slice(1000, 2000)
    (rule,) = fit_rules(scores[fit], true[fit], costs[fit], (0.02,))
    left = stopped_after(rule, scores[judged])
    rows = np.arange(1000)
    saved = 1 - costs[judged][rows, left].mean()
    lost = true[judged][:, -1].mean() - true[judged][rows, left].mean()
    assert saved > 0.1 and lost < 0.02 * saved + 0.01


def test_stops_by_hand() -> None:
    """After the first look .5 is needed, after the second .45 where it agrees and .7 where it does not."""
    rule = StopRule(agreeing=(NEVER, 0.45), differing=(0.5, 0.7))
    scores = np.array(
        [
            [[0.5, 0.3, 0.2], [0.7, 0.1, 0.2], [0.8, 0.1, 0.1]],  # the second agrees, .5 is enough
            [[0.3, 0.5, 0.2], [0.7, 0.1, 0.2], [0.8, 0.1, 0.1]],  # the second differs, .5 is not enough
            [[0.8, 0.1, 0.1], [0.7, 0.1, 0.2], [0.8, 0.1, 0.1]],  # the first is enough
        ]
    )
    assert stopped_after(rule, scores).tolist() == [1, 2, 0]
    for clip, left in zip(scores, (1, 2, 0), strict=True):
        margin, agrees = margins(clip[None])[0], agreements(clip[None])[0]
        stops = [rule.stops(look + 1, margin[look], bool(agrees[look])) for look in range(3)]
        assert stops.index(True) == left, "the device's rule is the compiler's"


def test_few_clips_are_enough_to_find_who_is_sure() -> None:
    """Forty clips: half are right at once and sure of it, half need all looks."""
    sure = np.tile([0.95, 0.03, 0.02], (20, 4, 1))
    unsure = np.tile([0.36, 0.34, 0.30], (20, 4, 1))
    unsure[:, -1] = [0.9, 0.05, 0.05]
    scores = np.concatenate([sure, unsure])
    costs = np.tile(np.arange(1, 5) / 4, (40, 1))
    (rule,) = fit_rules(scores, scores[..., 0], costs, (0.05,))
    assert stopped_after(rule, scores).tolist() == [0] * 20 + [3] * 20


@given(st.integers(0, 2**16), st.floats(-3, 3), st.integers(1, 50))
def test_any_gain_gives_a_rule(seed: int, gained: float, clips: int) -> None:
    """Of one clip, of clips that all agree, of a gain that rises with the margin."""
    draw = np.random.default_rng(seed)
    scores = draw.dirichlet(np.ones(3), size=(clips, 3))
    true = np.clip(scores[..., 0] + gained * np.arange(3), 0, 1)
    for rule in fit_rules(scores, true, np.tile([0.3, 0.6, 1.0], (clips, 1)), PRICES):
        assert all(0 <= margin <= NEVER for margin in (*rule.agreeing, *rule.differing))


@given(st.lists(st.tuples(st.floats(-5, 5), st.integers(1, 9)), min_size=1, max_size=12))
def test_falling_is_the_nearest_that_falls(pairs: list[tuple[float, int]]) -> None:
    values, weights = np.array([v for v, _ in pairs]), np.array([w for _, w in pairs])
    found = falling(values, weights)
    assert (np.diff(found) <= 1e-9).all()
    assert np.isclose((found * weights).sum(), (values * weights).sum(), atol=1e-6)
    if (np.diff(values) <= 0).all():
        assert np.allclose(found, values)
