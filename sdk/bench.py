"""Measures what a bundle costs on this device: its graphs, its views, its opening and the whole pipeline."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from runtimes.bundle import Bundle
from runtimes.device import device_name, process_memory_mb
from runtimes.engine import Array, Engine, open_engine
from runtimes.errors import AdaptiveVideoError
from runtimes.spec import PRESENT, CostTable, Graph, GraphCost, Manifest, Policy, Variant, View, ViewCost
from sdk.media.frames import Frame
from sdk.media.renderers import renderer
from sdk.media.steps import decode_steps
from sdk.media.wanted import Wanted
from sdk.pipeline import Pipeline
from sdk.scheduler import Chooser, FixedChoice, LearntChoice, dearest_choice, option_costs
from sdk.statistics import Statistics, StatisticsSnapshot
from sdk.switching import SwitchCost, measure_switching

DEFAULT_SOURCE = "test://?size=1280x720&rate=30&duration=10&live=0"
_ROUNDS = 10
"""Rounds over all graphs and views: what else the machine does meanwhile then hits all of them alike."""
_WARM_UP_RUNS = 3


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
    """

    variant: str
    chosen: str
    dense_option: str
    adaptive: StatisticsSnapshot
    dense: StatisticsSnapshot
    adaptive_mean_ms: float
    dense_mean_ms: float

    @property
    def speed_up(self) -> float:
        """How many times less the mean step takes than a dense one, decoding included."""
        return self.dense_mean_ms / self.adaptive_mean_ms


@dataclass(frozen=True, slots=True)
class BenchReport:
    """All that was measured; ``memory_mb`` is the whole process's with every graph open."""

    costs: CostTable
    load: LoadTimes
    pipeline: PipelineReport
    switching: SwitchCost | None
    memory_mb: float | None

    def exceeding(self, max_p95_ms: float) -> list[str]:
        """The rows whose 95th percentile is above the limit, each with its value."""
        rows = [(f"{row.graph} on {row.view}", row.p95_ms) for row in self.costs.graphs]
        rows.append((f"{self.pipeline.chosen} pipeline", self.pipeline.adaptive.latency_ms["total"].p95))
        return [f"{name}: p95 {p95_ms:.2f} ms" for name, p95_ms in rows if p95_ms > max_p95_ms]

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return {
            "costs": self.costs.model_dump(mode="json"),
            "load": asdict(self.load),
            "pipeline": asdict(self.pipeline) | {"speed_up": self.pipeline.speed_up},
            "switching": asdict(self.switching) if self.switching else None,
            "memory_mb": self.memory_mb,
        }


def bench(
    path: str | Path,
    device: str = "auto",
    *,
    source: str = DEFAULT_SOURCE,
    runs: int = 50,
    variant: str | None = None,
    threads: int | None = None,
    allow_fallback: bool = False,
) -> BenchReport:
    """Measure the bundle at ``path``; ``source`` is a file or a test pattern, ``runs`` those of each row.

    Raises: BundleError, EngineError, SourceError; AdaptiveVideoError if ``runs`` is less than 1.
    """
    if runs < 1:
        raise AdaptiveVideoError(f"runs {runs}", "is not a number of runs", "use 1 or more")
    began = time.perf_counter()
    bundle = Bundle.open(path)
    verified = time.perf_counter()
    manifest = bundle.manifest
    chosen = bundle.variant(variant)
    with open_engine(bundle, device, allow_fallback=allow_fallback, threads=threads) as engine:
        pipeline = Pipeline(manifest, chosen, engine, _free(chosen), top=1)
        opened = time.perf_counter()
        frame = next(decode_steps(source, Wanted.of(manifest.steps, manifest.views)))
        pipeline.advance(frame)
        answered = time.perf_counter()
        costs = measure_costs(engine, manifest, frame, runs)
        return BenchReport(
            costs=costs,
            load=LoadTimes((verified - began) * 1e3, (opened - verified) * 1e3, (answered - began) * 1e3),
            pipeline=_measure_pipeline(engine, manifest, chosen, costs, source),
            switching=measure_switching(_branch_calls(engine, manifest, chosen), runs),
            memory_mb=process_memory_mb(),
        )


def measure_costs(engine: Engine, manifest: Manifest, frame: Frame, runs: int = 50) -> CostTable:
    """Costs of every graph on each of its views, and of rendering each view from ``frame``.

    Raises: EngineError.
    """
    pairs = _graphs_on_views(manifest)
    calls: list[Callable[[], object]] = []
    memory: dict[str, float | None] = {}
    for graph, view in pairs:
        inputs = _inputs(manifest.graph(graph), _taken_with(manifest, graph, view))
        before = process_memory_mb()
        runner = engine.graph(graph)
        calls.append(partial(runner, **inputs))
        for _ in range(_WARM_UP_RUNS):
            runner(**inputs)
        memory[graph] = _held_mb(engine, graph, before, memory.get(graph))
    renderers = [renderer(view) for view in manifest.views]
    calls += [partial(renderer.render, frame) for renderer in renderers]
    measured = [_p50_p95(spent) for spent in _timed_in_turns(calls, runs)]
    return CostTable(
        device=device_name(),
        providers=(engine.provider,),
        threads=engine.threads,
        graphs=tuple(
            GraphCost(graph=graph, view=view, p50_ms=p50, p95_ms=p95, memory_mb=memory[graph])
            for (graph, view), (p50, p95) in zip(pairs, measured, strict=False)
        ),
        views=tuple(
            ViewCost(view=view.name, p50_ms=p50, p95_ms=p95)
            for view, (p50, p95) in zip(manifest.views, measured[len(pairs) :], strict=True)
        ),
    )


def _free(variant: Variant) -> Chooser:
    """Whatever the policy prefers, cost aside; without a policy, the first option."""
    if variant.policy is None:
        return FixedChoice(variant)
    return LearntChoice(variant.action_space, np.zeros(len(variant.action_space.options)))


def _branch_calls(engine: Engine, manifest: Manifest, variant: Variant) -> dict[str, Callable[[], object]]:
    """A run of each branch of a variant on noise, by option."""
    return {
        option.name: partial(
            engine.graph(option.graph),
            **_inputs(manifest.graph(option.graph), {"frame": manifest.view(option.view)}),
        )
        for option in variant.action_space.options
        if option.graph and option.view and not variant.is_head(option)
    }


def _held_mb(engine: Engine, graph: str, before: float | None, known: float | None) -> float | None:
    """Memory (MB) that a graph holds once it has run, whichever view it was opened for."""
    opened = next(entry.opened_mb for entry in engine.declared if entry.graph == graph)
    after = process_memory_mb()
    if before is None or after is None or opened is None:
        return None
    return max(after - before, opened, known or 0.0)


def _graphs_on_views(manifest: Manifest) -> list[tuple[str, str]]:
    """Each graph with each view it is ever run on, once, in a fixed order; a policy with its first."""
    pairs: dict[tuple[str, str], None] = {}
    for variant in manifest.variants:
        if variant.policy is not None:
            pairs[variant.policy.graph, variant.policy.views[0]] = None
        for option in variant.action_space.options:
            if option.graph and option.view and not variant.is_head(option):
                pairs[option.graph, option.view] = None
    return list(pairs)


def _measure_pipeline(
    engine: Engine, manifest: Manifest, variant: Variant, costs: CostTable, source: str
) -> PipelineReport:
    """Take each frame through both pipelines, in turns which goes first: load on the machine hits both."""
    dense = dearest_choice(variant, option_costs(variant, costs))
    chooser: Chooser = FixedChoice(variant)
    if variant.policy is not None:
        chooser = LearntChoice(variant.action_space, option_costs(variant, costs), variant.price)
    pipelines = (
        Pipeline(manifest, variant, engine, chooser, top=1),
        Pipeline(manifest, variant, engine, FixedChoice(variant, dense), top=1),
    )
    statistics = Statistics(), Statistics()
    totals: tuple[list[float], list[float]] = ([], [])
    for number, frame in enumerate(decode_steps(source, Wanted.of(manifest.steps, manifest.views))):
        for which in (0, 1) if number % 2 else (1, 0):
            recognition = pipelines[which].advance(frame)
            statistics[which].add(recognition)
            totals[which].append(recognition.latency_ms.total)
    return PipelineReport(
        variant=variant.name,
        chosen=f"always {chooser.option}" if isinstance(chooser, FixedChoice) else "adaptive",
        dense_option=dense,
        adaptive=statistics[0].snapshot(),
        dense=statistics[1].snapshot(),
        adaptive_mean_ms=float(np.mean(totals[0])),
        dense_mean_ms=float(np.mean(totals[1])),
    )


def _taken_with(manifest: Manifest, graph: str, view: str) -> dict[str, View]:
    """The views that a graph takes at once where it takes ``view``, by the names of its inputs."""
    policies: list[Policy] = [v.policy for v in manifest.variants if v.policy and v.policy.graph == graph]
    names = policies[0].inputs if policies else {view: "frame"}
    return {name: manifest.view(taken) for taken, name in names.items()}


def _inputs(graph: Graph, views: Mapping[str, View]) -> dict[str, Array]:
    """Noise for the ``views`` by input, zeros for the states; every group is there."""
    inputs: dict[str, Array] = {
        name: np.full([1 if size is None else size for size in tensor.shape], name == PRESENT, tensor.dtype)
        for name, tensor in graph.inputs.items()
    }
    for name, view in views.items():
        inputs[name] = np.random.default_rng(0).integers(0, 256, view.shape, np.uint8)
    return inputs


def _timed_in_turns(calls: Sequence[Callable[[], object]], runs: int) -> list[list[float]]:
    """Wall times of ``runs`` runs of each call in ms, taken in rounds over all of them.

    Each turn begins with one run that is not counted: the call before left its own data in the caches.
    """
    spent: list[list[float]] = [[] for _ in calls]
    for number in range(_ROUNDS):
        share = runs * (number + 1) // _ROUNDS - runs * number // _ROUNDS
        for call, times in zip(calls, spent, strict=True):
            if share:
                call()
            for _ in range(share):
                began = time.perf_counter()
                call()
                times.append((time.perf_counter() - began) * 1e3)
    return spent


def _p50_p95(spent: Sequence[float]) -> tuple[float, float]:
    p50, p95 = np.percentile(spent, [50, 95])
    return float(p50), float(p95)
