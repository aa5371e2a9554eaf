"""The targets of one bundle side by side on this machine: time, memory, size, opening, and agreement."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from runtimes.bundle import Bundle
from runtimes.device import process_memory_mb
from runtimes.engines.engine import Engine, open_engine
from runtimes.spec import Variant
from sdk.benchmark.device_costs import open_whole
from sdk.benchmark.graph_costs import graph_calls, require_runs, timed_in_turns
from sdk.decisions.choosers import Chooser, FixedChoice, LearnedChoice
from sdk.decisions.option_costs import option_costs
from sdk.decisions.step_pipeline import Pipeline
from sdk.media.requirements import StreamRequirements
from sdk.media.steps import decode_steps
from sdk.results import Recognition


@dataclass(frozen=True, slots=True)
class TargetReport:
    """One target of a bundle, on the same graphs and frames as the others, in turns.

    ``opened_ms``, ``memory_mb``: opening every graph and running each once (MB None where not measured).
    ``graph_ms``: median of each graph on each view. ``step_ms``: mean of the whole pipeline, decoding
    included. ``same_choices``, ``same_labels``: share of steps as the bundle's own target has them, and
    ``score_difference`` the largest of any fused score of these steps.
    """

    target: str
    runtime: str
    provider: str
    file_mb: float
    opened_ms: float
    memory_mb: float | None
    graph_ms: dict[str, float]
    step_ms: float
    same_choices: float
    same_labels: float
    score_difference: float


def compare_targets(
    path: str | Path,
    device: str = "cpu",
    *,
    source: str,
    runs: int = 50,
    variant: str | None = None,
    threads: int | None = None,
) -> tuple[TargetReport, ...]:
    """Every target of the bundle at ``path``, its own first; ``runs`` of each graph on each view.

    Raises: BundleError, EngineError (also if a target's runtime is not installed), SourceError.
    """
    require_runs(runs)
    bundle = open_whole(path)
    chosen = bundle.variant(variant)
    with ExitStack() as stack:
        opened = [
            _Opened(bundle, target, chosen, stack.enter_context(_engine(bundle, target, device, threads)))
            for target in bundle.manifest.targets
            if chosen.graphs <= {graph.name for graph in bundle.manifest.graphs_of(target)}
        ]
        times = _graph_times(opened, runs)
        steps = _streamed(opened, source)
    return tuple(
        _report(one, own_times, own_steps, steps[0])
        for one, own_times, own_steps in zip(opened, times, steps, strict=True)
    )


def _engine(bundle: Bundle, target: str, device: str, threads: int | None) -> Engine:
    return open_engine(bundle, device, target=target, threads=threads)


class _Opened:
    """A target with every graph of a variant open and run once."""

    def __init__(self, bundle: Bundle, target: str, variant: Variant, engine: Engine) -> None:
        self.bundle, self.target, self.variant, self.engine = bundle, target, variant, engine
        before, began = process_memory_mb(), time.perf_counter()
        calls = graph_calls(engine, bundle.manifest, target)
        self.calls = {name: call for name, call in calls.items() if name[0] in variant.graphs}
        for call in self.calls.values():
            call()
        self.opened_ms = (time.perf_counter() - began) * 1e3
        after = process_memory_mb()
        self.memory_mb = None if before is None or after is None else after - before

    @property
    def file_mb(self) -> float:
        """What its graphs of the variant take on disk."""
        manifest = self.bundle.manifest
        graphs = [graph for graph in manifest.graphs_of(self.target) if graph.name in self.variant.graphs]
        files = {file for graph in graphs for file in manifest.files_of(graph)}
        return sum(manifest.files[file].bytes for file in files) / 1e6

    def pipeline(self) -> Pipeline:
        """The variant's, every option priced by the same table whatever the target; free without one."""
        manifest, variant = self.bundle.manifest, self.variant
        chooser: Chooser = FixedChoice(variant)
        if variant.policy is not None:
            tables = manifest.cost_tables
            options = len(variant.action_space.options)
            costs = option_costs(variant, tables[0]) if tables else np.zeros(options)
            chooser = LearnedChoice(variant.action_space, costs, variant.price)
        return Pipeline(manifest, variant, self.engine, chooser, top=len(manifest.labels))


def _graph_times(opened: Sequence[_Opened], runs: int) -> list[dict[str, float]]:
    """Median ms of each target's graphs by graph and view, all in turns."""
    calls: list[Callable[[], object]] = [call for one in opened for call in one.calls.values()]
    medians = iter(map(float, (np.median(spent) for spent in timed_in_turns(calls, runs))))
    return [{f"{graph} on {view}": next(medians) for graph, view in one.calls} for one in opened]


def _streamed(opened: Sequence[_Opened], source: str) -> list[list[Recognition]]:
    """Each frame of the source through every target, in turns which goes first."""
    manifest = opened[0].bundle.manifest
    pipelines = [one.pipeline() for one in opened]
    steps: list[list[Recognition]] = [[] for _ in opened]
    for number, frame in enumerate(
        decode_steps(source, StreamRequirements.of(manifest.steps, manifest.views))
    ):
        for turn in range(len(opened)):
            which = (number + turn) % len(opened)
            steps[which].append(pipelines[which].advance(frame))
    return steps


def _report(
    one: _Opened, times: dict[str, float], steps: Sequence[Recognition], own: Sequence[Recognition]
) -> TargetReport:
    pairs = list(zip(steps, own, strict=True))
    return TargetReport(
        target=one.target,
        runtime=one.bundle.manifest.runtime(one.target),
        provider=one.engine.provider,
        file_mb=one.file_mb,
        opened_ms=one.opened_ms,
        memory_mb=one.memory_mb,
        graph_ms=times,
        step_ms=float(np.mean([step.latency_ms.total for step in steps])),
        same_choices=float(np.mean([step.choice == other.choice for step, other in pairs])),
        same_labels=float(np.mean([step.label == other.label for step, other in pairs])),
        score_difference=max(_apart(step, other) for step, other in pairs),
    )


def _apart(step: Recognition, other: Recognition) -> float:
    scores = dict(other.top)
    return max(abs(score - scores[label]) for label, score in step.top)


def to_json(reports: Sequence[TargetReport]) -> list[dict[str, Any]]:
    """The same as plain JSON values."""
    return [asdict(report) for report in reports]
