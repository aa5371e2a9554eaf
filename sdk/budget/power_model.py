"""What power each price would have led to, worked out from the scores of the last decisions."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtimes.spec import ActionSpace, Group, PriceResponse

Floats = NDArray[np.float64]
Energies = Callable[[Floats], tuple[Floats, Floats]]
"""What decisions take at each of some prices (m,): energies (J) and steps, (m,) each."""

_FEWEST, _MOST = 4, 64
_REMEMBERED_S = 30.0
"""Decisions by which prices are judged: so many at most, and none that is older, if there are a few."""


class PowerModel:
    """Remembers decisions, and what any price would have chosen in their place.

    The price is an input of the policy, which scores accordingly. Its scores at another price are taken to
    differ as they do on average (``response``); what is off by that is put right when the price is there.
    """

    def __init__(self, space: ActionSpace, response: PriceResponse | None = None) -> None:
        bounds = accumulate((len(group.options) for group in space.groups), initial=0)
        self._groups = [
            _GroupOutcome(group, slice(first, after))
            for group, (first, after) in zip(space.groups, pairwise(bounds), strict=True)
        ]
        self._decisions: deque[_Decided] = deque(maxlen=_MOST)
        self._response = _Response(response)

    def __len__(self) -> int:
        return len(self._decisions)

    def remember(
        self, now_s: float, scores: NDArray[np.floating], absent_views: Collection[str], price: float = 0.0
    ) -> None:
        """Remember a decision's ``scores`` (n,) at a price; none of the ``absent_views`` could be chosen."""
        self._decisions.append(_Decided(now_s, scores, tuple(absent_views), price))
        while len(self._decisions) > _FEWEST and now_s - self._decisions[0].time_s > _REMEMBERED_S:
            self._decisions.popleft()

    def energies(self, costs: NDArray[np.floating], energies_j: Floats) -> Energies:
        """Energy (J) of all remembered decisions at each price (m,), and how many steps they take up (m,).

        ``costs`` (n,): relative, by which options are chosen; ``energies_j`` (1 + n,): of the policy and of
        each option.
        """
        free_scores, orders = self._free_scores()[None], [group.order(costs) for group in self._groups]

        def at(prices: Floats) -> tuple[Floats, Floats]:
            values = free_scores + (self._response.at(prices) - prices[:, None] * costs)[:, None]
            total_j = np.full(values.shape[:2], energies_j[0])
            steps: Floats | None = None
            for group, order in zip(self._groups, orders, strict=True):
                chosen = order[values[..., group.options][..., order].argmax(axis=-1)]
                total_j += energies_j[1:][group.options][chosen]
                skips = group.skips[chosen]
                steps = skips if steps is None else np.minimum(steps, skips)
            assert steps is not None, "an action space has groups"
            return total_j.sum(axis=1), np.maximum(steps, 1).sum(axis=1)

        return at

    def _free_scores(self) -> Floats:
        """What the remembered decisions' scores would have been at price 0 (decisions, n)."""
        prices = np.array([decision.price for decision in self._decisions])
        scores = np.stack([decision.scores for decision in self._decisions]) - self._response.at(prices)
        for own, decision in zip(scores, self._decisions, strict=True):
            if decision.absent_views:
                for group in self._groups:
                    group.leave_out(own, decision.absent_views)
        return scores


class _Decided(NamedTuple):
    """A decision: when, by which scores (n,), without which views, at which price."""

    time_s: float
    scores: NDArray[np.floating]
    absent_views: tuple[str, ...]
    price: float


class _Response:
    """By how much scores differ from those at price 0."""

    def __init__(self, response: PriceResponse | None) -> None:
        self._told = None if response is None else np.log1p(response.prices)
        self._scores = np.zeros((1, 1)) if response is None else np.array(response.scores)

    def at(self, prices: Floats) -> Floats:
        """The differences (m, n) at each price, linear between those known in the price's logarithm."""
        if self._told is None:
            return np.broadcast_to(self._scores, (len(prices), 1))
        along = np.interp(np.log1p(prices), self._told, np.arange(len(self._told), dtype=np.float64))
        below = np.minimum(along.astype(int), len(self._told) - 2)
        share = (along - below)[:, None]
        return (1 - share) * self._scores[below] + share * self._scores[below + 1]


class _GroupOutcome:
    """One group's options, and which of them are there."""

    def __init__(self, group: Group, options: slice) -> None:
        self.options = options
        self.skips = np.array([option.skip for option in group.options], np.float64)
        self._views = [option.view for option in group.options]

    def leave_out(self, values: Floats, absent_views: Collection[str]) -> None:
        """Mark in the scores (n,) of all what is absent; a group of which all is takes its longest skip."""
        own = values[self.options]
        absent = np.array([view in absent_views for view in self._views])
        own[absent] = -np.inf
        branches = self.skips == 0
        if absent[branches].all():
            own[self.skips < self.skips.max()] = -np.inf

    def order(self, costs: NDArray[np.floating]) -> NDArray[np.intp]:
        """Its options, the cheapest first: ties go to it."""
        return np.argsort(costs[self.options], kind="stable")
