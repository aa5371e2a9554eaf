"""Running statistics of a stream in constant memory: percentiles, rate, drops and choices."""

from __future__ import annotations

import math
import threading
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from importlib import import_module
from itertools import accumulate
from typing import Any

from runtimes.engines.engine import GraphDeclaration
from sdk.results import Latency, Recognition

_LOWEST_MS = 1e-3
_HIGHEST_MS = 1e5
_GROWTH = 1.04
"""Each bucket reaches 4 % further than the last: its geometric middle is within 2 % of all it holds."""
_PER_E = 1 / math.log(_GROWTH)
"""Buckets in which a duration grows e-fold."""
_BUCKETS = math.ceil(math.log(_HIGHEST_MS / _LOWEST_MS, _GROWTH))
_MET = {True: "met", False: "not met", None: "not known"}
_RATE_WINDOW = 128
_BATCH = 64
"""Steps counted at once: doing it at each would bring its code and data into the caches at each."""


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Median, 95th and 99th percentile in ms (within 2 %), and of how many values."""

    p50: float
    p95: float
    p99: float
    count: int


class LatencyHistogram:
    """Percentiles of durations between 1 us and 100 s, whatever their number, within 2 %."""

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self._total = 0

    def record(self, milliseconds: float) -> None:
        """Count one duration; those out of range count as the nearest that is in range."""
        inside = min(max(milliseconds, _LOWEST_MS), _HIGHEST_MS)
        bucket = int(math.log(inside / _LOWEST_MS) * _PER_E)
        self._counts[min(bucket, _BUCKETS - 1)] += 1
        self._total += 1

    def percentile(self, percent: float) -> float:
        """The least duration (ms) that ``percent`` of all do not exceed. Raises: ValueError if empty."""
        if not self._total:
            raise ValueError("no duration was added")
        rank = max(1, math.ceil(percent / 100 * self._total))
        bucket = bisect_left(list(accumulate(self._counts)), rank)
        return float(_LOWEST_MS * _GROWTH ** (bucket + 0.5))

    def percentiles(self) -> Percentiles | None:
        """The usual three, or None if nothing was added."""
        if not self._total:
            return None
        return Percentiles(self.percentile(50), self.percentile(95), self.percentile(99), self._total)


@dataclass(frozen=True, slots=True)
class StatisticsSnapshot:
    """A stream's statistics at one moment.

    ``fps``: steps per second of wall clock over the last steps, None before the second; ``latency_ms``: by
    stage, counting the steps in which the stage ran; ``drops``: frames lost by cause; ``choices``: steps by
    choice; ``graphs``: what each graph really runs on, and its runs since it was opened. ``energy_mj``: of
    the ``energy_steps`` steps of which it is known, by ``energy_source``; None without any. ``power_w``: the
    average of the last 30 s at most under a budget. ``budget``: steps at which it was met, not met, and not
    known to be; empty without one. ``learned_mj``: what the policy and each option take here, as learned.
    """

    steps: int
    fps: float | None
    latency_ms: dict[str, Percentiles]
    drops: dict[str, int]
    choices: dict[str, int]
    graphs: tuple[GraphDeclaration, ...]
    energy_mj: float | None = None
    energy_steps: int = 0
    energy_source: str | None = None
    power_w: float | None = None
    budget: dict[str, int] = field(default_factory=dict)
    learned_mj: dict[str, float] = field(default_factory=dict)

    @property
    def graph_runs(self) -> dict[str, int]:
        """Runs of each graph since it was opened."""
        return {graph.graph: graph.runs for graph in self.graphs}

    def __str__(self) -> str:
        return _summary().as_text(self.__rich__())

    def __rich__(self) -> Any:
        return _summary().summary_table(self)

    def _repr_html_(self) -> str:
        return _summary().as_html(self.__rich__())

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return asdict(self)


def _summary() -> Any:
    # Only who prints statistics waits for the package that draws tables.
    return import_module("sdk.streaming.summary")


class Statistics:
    """Gathers what a stream's results say; may be read from another thread than the one that adds."""

    def __init__(self) -> None:
        self._latencies = {stage.name: LatencyHistogram() for stage in fields(Latency)}
        self._uncounted: list[Latency] = []
        self._lock = threading.Lock()
        self._choices: Counter[str] = Counter()
        # Steps over a span, not a mean of gaps: cameras deliver in bursts.
        self._finished: deque[float] = deque(maxlen=_RATE_WINDOW)
        self._steps = 0
        self._energy_mj, self._energy_steps = 0.0, 0
        self._energy_source: str | None = None
        self._power_w: float | None = None
        self._budget: Counter[str] = Counter()

    def record_result(self, recognition: Recognition) -> None:
        """Count one step's result."""
        with self._lock:
            self._uncounted.append(recognition.latency_ms)
            if len(self._uncounted) == _BATCH:
                self._count()
            self._choices[recognition.choice] += 1
            self._finished.append(time.monotonic())
            self._steps += 1
            if recognition.energy_mj is not None:
                self._energy_mj += recognition.energy_mj
                self._energy_steps += 1
            self._energy_source = recognition.energy_source
            if recognition.power_w is not None:
                self._power_w = recognition.power_w
            if recognition.budget_met is not None or recognition.budget_problem is not None:
                self._budget[_MET[recognition.budget_met]] += 1

    def snapshot(
        self,
        drops: Mapping[str, int] | None = None,
        graphs: Iterable[GraphDeclaration] = (),
        learned_mj: Mapping[str, float] | None = None,
    ) -> StatisticsSnapshot:
        """The statistics as they stand, with the source's ``drops``, ``graphs``, and costs learned."""
        with self._lock:
            self._count()
            measured = {stage: histogram.percentiles() for stage, histogram in self._latencies.items()}
            return StatisticsSnapshot(
                steps=self._steps,
                fps=self._fps(),
                latency_ms={stage: values for stage, values in measured.items() if values},
                drops=dict(drops or {}),
                choices=dict(self._choices.most_common()),
                graphs=tuple(graphs),
                energy_mj=self._energy_mj if self._energy_steps else None,
                energy_steps=self._energy_steps,
                energy_source=self._energy_source,
                power_w=self._power_w,
                budget=dict(self._budget),
                learned_mj=dict(learned_mj or {}),
            )

    def _count(self) -> None:
        for latency in self._uncounted:
            for stage, histogram in self._latencies.items():
                spent = getattr(latency, stage)
                if spent > 0:
                    histogram.record(spent)
        self._uncounted.clear()

    def _fps(self) -> float | None:
        if len(self._finished) < 2:
            return None
        span = self._finished[-1] - self._finished[0]
        return (len(self._finished) - 1) / span if span > 0 else None
