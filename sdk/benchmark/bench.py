"""Measures what a bundle costs on this device: its graphs, its views, its opening and the whole pipeline."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from runtimes.device import process_memory_mb
from runtimes.engines.engine import Engine, open_engine
from runtimes.errors import ArgumentError
from runtimes.spec import CostTable, Manifest, Variant
from sdk.benchmark.device_costs import open_whole
from sdk.benchmark.graph_costs import measure_costs, noise_inputs, require_runs
from sdk.benchmark.sustained import Minute, sustain
from sdk.benchmark.switching import SwitchCost, measure_switching
from sdk.decisions.choosers import Chooser, FixedChoice, LearnedChoice
from sdk.decisions.option_costs import most_expensive_choice, option_costs
from sdk.decisions.points.front_choice import FrontChoice
from sdk.decisions.step_pipeline import Pipeline
from sdk.media.requirements import StreamRequirements
from sdk.media.steps import decode_steps
from sdk.power import Meter
from sdk.power.dynamic import dynamic_energy
from sdk.results import Recognition
from sdk.streaming.statistics import Statistics, StatisticsSnapshot

DEFAULT_SOURCE = "test://?size=1280x720&rate=30&duration=10&live=0"


@dataclass(frozen=True, slots=True)
class LoadTimes:
    """Opening, in ms: checking every file, opening the graphs, and from the start to the first result."""

    verify_ms: float
    graphs_ms: float
    first_result_ms: float


@dataclass(frozen=True, slots=True)
class PipelineReport:
    """The adaptive pipeline beside one that always runs ``dense_option``, on the same frames in turns.

    Where the app chooses, its first option stands in for the policy's choices; ``chosen`` says which it is.
    ``spread``: of ``speed_up``, two standard errors of the mean difference of a step; None of one step alone.
    ``adaptive_mj``, ``dense_mj``: what the whole source takes, beyond the idle device; None where not known.
    """

    variant: str
    chosen: str
    dense_option: str
    adaptive: StatisticsSnapshot
    dense: StatisticsSnapshot
    adaptive_mean_ms: float
    dense_mean_ms: float
    spread: float | None
    adaptive_mj: float | None = None
    dense_mj: float | None = None

    @property
    def speed_up(self) -> float:
        """How many times less the mean step takes than a dense one, decoding included."""
        return self.dense_mean_ms / self.adaptive_mean_ms

    @property
    def differs(self) -> bool:
        """Whether the two ran different things, and the difference in time is larger than its spread."""
        same = self.chosen == f"always {self.dense_option}"
        return not same and self.spread is not None and abs(self.speed_up - 1) > self.spread


@dataclass(frozen=True, slots=True)
class BenchReport:
    """All that was measured.

    ``memory_mb`` is the whole process's with every graph open; ``sustained``: of each minute, if it was run.
    """

    costs: CostTable
    load: LoadTimes
    pipeline: PipelineReport
    switching: SwitchCost | None
    memory_mb: float | None
    sustained: tuple[Minute, ...] = ()

    @property
    def drift(self) -> float | None:
        """How many times the first minute's median latency the last one's is; None without two minutes."""
        if len(self.sustained) < 2:
            return None
        return self.sustained[-1].p50_ms / self.sustained[0].p50_ms

    def exceeding(self, max_p95_ms: float) -> list[str]:
        """The rows whose 95th percentile is above the limit, each with its value."""
        rows = [(f"{row.graph} on {row.view}", row.p95_ms) for row in self.costs.graphs]
        rows.append((f"{self.pipeline.chosen} pipeline", self.pipeline.adaptive.latency_ms["total"].p95))
        rows += [(f"minute {minute.number}", minute.p95_ms) for minute in self.sustained]
        return [f"{name}: p95 {p95_ms:.2f} ms" for name, p95_ms in rows if p95_ms > max_p95_ms]

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return {
            "costs": self.costs.model_dump(mode="json"),
            "load": asdict(self.load),
            "pipeline": asdict(self.pipeline) | {"speed_up": self.pipeline.speed_up},
            "switching": asdict(self.switching) if self.switching else None,
            "memory_mb": self.memory_mb,
            "sustained": [asdict(minute) for minute in self.sustained],
            "drift": self.drift,
        }


def bench(
    path: str | Path,
    device: str = "auto",
    *,
    source: str = DEFAULT_SOURCE,
    runs: int = 50,
    variant: str | None = None,
    target: str | None = None,
    threads: int | None = None,
    allow_fallback: bool = False,
    meter: Meter | None = None,
    minutes: float | None = None,
    each_minute: Callable[[Minute], None] = lambda minute: None,
) -> BenchReport:
    """Measure the bundle at ``path``; ``source`` is a file or a test pattern, ``runs`` those of each row.

    ``target``: one of the bundle's, its own by default. ``meter``: also the energy of each. ``minutes``: then
    stream for so long, and call ``each_minute`` after every minute.

    Raises: BundleError, EngineError, SourceError, MeterError; AdaptiveVideoError if ``runs`` is less than 1,
        or ``minutes`` not positive.
    """
    require_runs(runs)
    if minutes is not None and not 0 < minutes < float("inf"):
        raise ArgumentError(f"minutes {minutes}", "is not a duration", "use more than 0")
    began = time.perf_counter()
    bundle = open_whole(path)
    verified = time.perf_counter()
    manifest = bundle.manifest
    chosen = bundle.variant(variant, target)
    with open_engine(bundle, device, target=target, allow_fallback=allow_fallback, threads=threads) as engine:
        pipeline = Pipeline(manifest, chosen, engine, _free(chosen), top=1)
        opened = time.perf_counter()
        frame = next(decode_steps(source, StreamRequirements.of(manifest.steps, manifest.views)))
        pipeline.advance(frame)
        answered = time.perf_counter()
        costs = measure_costs(engine, manifest, frame, runs, meter, target)
        pair = _Pair(engine, manifest, chosen, costs, source)
        report = BenchReport(
            costs=costs,
            load=LoadTimes((verified - began) * 1e3, (opened - verified) * 1e3, (answered - began) * 1e3),
            pipeline=pair.measure(meter),
            switching=measure_switching(_branch_calls(engine, manifest, chosen), runs),
            memory_mb=process_memory_mb(),
        )
        sustained = []
        for minute in sustain(pair.stream, minutes, meter) if minutes else ():
            sustained.append(minute)
            each_minute(minute)
        return replace(report, sustained=tuple(sustained))


def _spread(one_ms: Sequence[float], other_ms: Sequence[float]) -> float | None:
    """Two standard errors of the mean difference of pairs, in units of the first's mean; None of one pair."""
    if len(one_ms) < 2:
        return None
    apart = np.array(other_ms) - np.array(one_ms)
    return float(2 * apart.std(ddof=1) / math.sqrt(len(apart)) / np.mean(one_ms))


def _free(variant: Variant) -> Chooser:
    """Whatever the policy prefers, cost aside; without a policy, the first option."""
    if variant.policy is None:
        return FixedChoice(variant)
    return LearnedChoice(variant.action_space, np.zeros(len(variant.action_space.options)))


def _branch_calls(engine: Engine, manifest: Manifest, variant: Variant) -> dict[str, Callable[[], object]]:
    """A run of each branch of a variant on noise, by option."""
    return {
        option.name: partial(
            engine.graph(option.graph),
            **noise_inputs(manifest.graph(option.graph), {"frame": manifest.view(option.view)}),
        )
        for option in variant.action_space.options
        if option.graph and option.view and not variant.is_head(option)
    }


class _Pair:
    """The adaptive pipeline of a variant, and a dense one, over one source."""

    def __init__(
        self, engine: Engine, manifest: Manifest, variant: Variant, costs: CostTable, source: str
    ) -> None:
        self._variant, self._source = variant, source
        self._requirements = StreamRequirements.of(manifest.steps, manifest.views)
        prices = option_costs(variant, costs)
        self._dense = most_expensive_choice(variant, prices)
        front, space, policy = manifest.front(variant.name), variant.action_space, variant.policy
        self._chooser: Chooser = FixedChoice(variant)
        if policy is not None and front is not None:
            self._chooser = FrontChoice(space, prices, front, manifest.steps.clip_steps, policy.graph)
        elif policy is not None:
            self._chooser = LearnedChoice(space, prices, variant.price)
        looks = None if front is None else front.fusion
        self._pipelines = (
            Pipeline(manifest, variant, engine, self._chooser, top=1, looks=looks),
            Pipeline(manifest, variant, engine, FixedChoice(variant, self._dense), top=1),
        )

    def measure(self, meter: Meter | None) -> PipelineReport:
        """Take each frame through both, in turns which goes first: load on the machine hits both."""
        statistics = Statistics(), Statistics()
        totals: tuple[list[float], list[float]] = ([], [])
        for number, frame in enumerate(decode_steps(self._source, self._requirements)):
            for which in (0, 1) if number % 2 else (1, 0):
                recognition = self._pipelines[which].advance(frame)
                statistics[which].record_result(recognition)
                totals[which].append(recognition.latency_ms.total)
        adaptive_mj, dense_mj = self._energies(meter)
        return PipelineReport(
            variant=self._variant.name,
            chosen=self._chosen,
            dense_option=self._dense,
            adaptive=statistics[0].snapshot(),
            dense=statistics[1].snapshot(),
            adaptive_mean_ms=float(np.mean(totals[0])),
            dense_mean_ms=float(np.mean(totals[1])),
            spread=_spread(*totals),
            adaptive_mj=adaptive_mj,
            dense_mj=dense_mj,
        )

    @property
    def _chosen(self) -> str:
        """What the adaptive pipeline runs, in words."""
        if isinstance(self._chooser, FixedChoice):
            return f"always {self._chooser.option}"
        point = self._chooser.standing_plan.point
        return "adaptive" if point is None else f"point {point}"

    def stream(self, which: int = 0) -> Iterator[Recognition]:
        """The whole source once, adaptive unless ``which`` is 1."""
        pipeline = self._pipelines[which]
        pipeline.reset()
        return map(pipeline.advance, decode_steps(self._source, self._requirements))

    def _energies(self, meter: Meter | None) -> tuple[float | None, ...]:
        """What the whole source takes (mJ), adaptive and dense."""
        if meter is None:
            return None, None
        passes = [partial(_exhaust, partial(self.stream, which)) for which in (0, 1)]
        return dynamic_energy(meter, passes).run_mj


def _exhaust(stream: Callable[[], Iterator[Recognition]]) -> None:
    deque(stream(), maxlen=0)
