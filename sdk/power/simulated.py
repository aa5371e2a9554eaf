"""A device in numbers alone: what it draws, how hot it gets, how it throttles, what its meter says.

To try budgets on, where no device is at hand or none may be heated up: its clock is moved by hand.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from sdk.power.app import AppMeter
from sdk.power.meter import Meter


@dataclass(frozen=True)
class Body:
    """A lump of metal: ``heats_c`` degrees above ``ambient_c`` for each watt, in ``time_s`` (to 63 %).

    From ``throttles_c`` on work takes ``slower`` times as long, at ``slower_w`` of the energy, until it is
    cooler than ``recovers_c``.
    """

    ambient_c: float = 25.0
    heats_c: float = 5.0
    time_s: float = 60.0
    throttles_c: float = 85.0
    recovers_c: float = 75.0
    slower: float = 1.6
    slower_w: float = 0.8


@dataclass(frozen=True)
class Probe:
    """A meter's weaknesses.

    ``noise``: deviation of each second's energy, relative to it; ``grain_j``: it counts in such lumps;
    ``delay_s``: it reports what was used so long ago; ``dies_s``: from then on it reports nothing;
    ``freezes_s``: or always the same.
    """

    noise: float = 0.0
    grain_j: float = 0.0
    delay_s: float = 0.0
    dies_s: float = float("inf")
    freezes_s: float = float("inf")


@dataclass
class SimulatedDevice:
    """Draws ``idle_w``, what ``loads`` add from a time on ((s, W) in order of time), and what runs.

    ``run_j``: energy of one run by name, ``run_s``: how long it takes, both at full speed. Time passes by
    ``advance``; what ``run`` spends is drawn at once.
    """

    idle_w: float
    run_j: Mapping[str, float]
    run_s: Mapping[str, float] = field(default_factory=dict)
    loads: Sequence[tuple[float, float]] = ()
    body: Body = field(default_factory=Body)
    probe: Probe = field(default_factory=Probe)
    seed: int = 0

    def __post_init__(self) -> None:
        self.now_s = 0.0
        self.used_j = 0.0
        self.throttled = False
        self.temperature_c = self.body.ambient_c + self.body.heats_c * self.idle_w
        self._random = np.random.default_rng(self.seed)
        self._seen_j = 0.0
        self._told: deque[tuple[float, float]] = deque([(0.0, 0.0)])
        self._not_yet_hot_j = 0.0

    def clock(self) -> float:
        """The device's time, in seconds."""
        return self.now_s

    def load_w(self) -> float:
        """What other programs draw now."""
        return next((watts for since_s, watts in reversed(self.loads) if self.now_s >= since_s), 0.0)

    def advance(self, to_s: float) -> None:
        """Let time pass, in slices of a tenth of a second at most."""
        while self.now_s < to_s:
            seconds = min(0.1, to_s - self.now_s)
            self._draw((self.idle_w + self.load_w()) * seconds)
            self.now_s += seconds
            self._warm(seconds)
            if self.now_s < self.probe.freezes_s:
                self._tell()

    def run(self, name: str) -> float:
        """Run one thing; how long that took, in seconds."""
        self._draw(self.run_j[name] * (self.body.slower_w if self.throttled else 1.0))
        return self.run_s.get(name, 0.0) * (self.body.slower if self.throttled else 1.0)

    def meter(self) -> Meter:
        """What an app of this device would give the recognizer; it reads the device's clock."""
        return AppMeter(self._read_j, "simulated device", period_s=0.1, clock=self.clock)

    def _tell(self) -> None:
        """Record what the meter will report in a while, and forget what it no longer reports."""
        self._told.append((self.now_s, self._seen_j))
        while len(self._told) > 1 and self._told[1][0] <= self.now_s - self.probe.delay_s:
            self._told.popleft()

    def _draw(self, joules: float) -> None:
        self.used_j += joules
        self._not_yet_hot_j += joules
        self._seen_j += joules * max(0.0, 1 + self.probe.noise * float(self._random.standard_normal()))

    def _warm(self, seconds: float) -> None:
        body, watts = self.body, self._not_yet_hot_j / seconds
        self._not_yet_hot_j = 0.0
        settles_c = body.ambient_c + body.heats_c * watts
        self.temperature_c += (settles_c - self.temperature_c) * (1 - np.exp(-seconds / body.time_s))
        if self.temperature_c >= body.throttles_c:
            self.throttled = True
        elif self.temperature_c < body.recovers_c:
            self.throttled = False

    def _read_j(self) -> float | None:
        probe = self.probe
        if self.now_s >= probe.dies_s:
            return None
        told_j = self._told[0][1]
        return np.floor(told_j / probe.grain_j) * probe.grain_j if probe.grain_j else told_j
