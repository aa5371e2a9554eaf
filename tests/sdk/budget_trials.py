"""Random devices under random budgets, along random fronts: what the controller is tried on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from runtimes.spec import OperatingFront
from sdk.budget.budget import Budget
from sdk.power.simulated import Probe, SimulatedDevice
from tests.sdk.budgeted_streams import Stream, action_space, constant, schedules, stream

CLIP_STEPS = 16

PROBES = st.builds(
    Probe,
    noise=st.floats(0, 0.05),
    grain_j=st.sampled_from([0.0, 0.001, 0.05]),
    delay_s=st.floats(0, 0.5),
)
"""Meters that are noisy, count in lumps and are late."""


@dataclass(frozen=True)
class Trial:
    """A random device, whose costs the table does not quite know, and budgets between its points' powers."""

    branches: int
    rate_hz: float
    idle_w: float
    dense_share: float
    budgets: tuple[float, float]
    load: float
    probe: Probe
    known: bool
    seed: int

    @cached_property
    def relative(self) -> NDArray[np.float64]:
        """What each branch costs, of falling cost."""
        return np.sort(np.random.default_rng(self.seed).uniform(0.1, 1, self.branches))[::-1]

    @property
    def costs(self) -> NDArray[np.float64]:
        """Of the policy and the branches, relative."""
        return np.concatenate([[0.1 * self.relative[-1]], self.relative])

    @property
    def scale_j(self) -> float:
        """What a cost of 1 takes."""
        return self.dense_share * self.idle_w / self.rate_hz

    @property
    def table(self) -> NDArray[np.float64]:
        """Costs as the bundle has them: in mJ if they are known."""
        return np.append(self.costs * (1e3 * self.scale_j if self.known else 1.0), [0.0] * 4)

    @cached_property
    def run_j(self) -> dict[str, float]:
        """What a run truly takes: every cost is off by a factor of its own."""
        off = np.random.default_rng(self.seed + 1).normal(0, 0.25, 1 + self.branches)
        names = ["policy", *(f"b{i}" for i in range(self.branches))]
        return dict(zip(names, (self.scale_j * self.costs * np.exp(off)).tolist(), strict=True))

    @cached_property
    def looks(self) -> list[tuple[str, int]]:
        """Of each point: its option, and how often a clip runs it; the last is dense."""
        random = np.random.default_rng(self.seed + 2)
        looks = [(f"b{i}", count) for i in range(self.branches) for count in (1, 2, 4, 8, 16)]
        picked = random.choice(len(looks), int(random.integers(2, 8)), replace=False)
        chosen = {looks[place] for place in picked} | {("b0", 16)}
        return sorted(chosen, key=lambda look: look[1] * self.relative[int(look[0][1:])])

    @property
    def front(self) -> OperatingFront:
        return schedules(action_space(self.branches), self.looks)

    @property
    def powers_w(self) -> list[float]:
        """What each look's schedule truly draws."""
        looks = ((self.run_j[name], count) for name, count in self.looks)
        return [self.idle_w + joules * count / CLIP_STEPS * self.rate_hz for joules, count in looks]

    @property
    def best_w(self) -> float:
        """Of the best point."""
        return self.powers_w[-1]

    def budget_w(self, place: int) -> float:
        low, high = 1.03 * min(self.powers_w), 1.1 * max(self.powers_w)
        return low + self.budgets[place] * (high - low)

    def run(self) -> Stream:
        """Ninety seconds, ninety with a load, sixty without, and ninety under the other budget."""
        loads = ((90.0, self.load * self.idle_w), (180.0, 0.0))
        device = SimulatedDevice(self.idle_w, self.run_j, loads=loads, probe=self.probe, seed=self.seed)
        budgets = [(0.0, Budget(watts=self.budget_w(0))), (240.0, Budget(watts=self.budget_w(1)))]
        rate, table = self.rate_hz, self.table.tolist()
        space, scores = action_space(self.branches), constant(*[0.0] * (self.branches + 4))
        how = {"rate_hz": rate, "known": self.known, "front": self.front, "clip_steps": CLIP_STEPS}
        return stream(device, space, table, scores, budgets, seconds=330, **how)  # type: ignore[arg-type]

    def spans(self) -> list[tuple[float, float, float, float]]:
        """(from, to, watts, load in W) wherever the cheapest point keeps to the budget."""
        load_w = self.load * self.idle_w
        spans = ((0, 90, 0, 0.0), (90, 180, 0, load_w), (180, 240, 0, 0.0), (240, 330, 1, 0.0))
        return [
            (since, until, self.budget_w(place), other_w)
            for since, until, place, other_w in spans
            if min(self.powers_w) + other_w < 0.99 * self.budget_w(place)
        ]
