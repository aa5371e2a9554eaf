"""What every graph and view of a bundle costs on this device: time, memory and energy."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from runtimes.device import device_name, process_memory_mb
from runtimes.engines.engine import Array, Engine
from runtimes.errors import ArgumentError
from runtimes.spec import PRESENT, CostTable, Graph, GraphCost, Manifest, Policy, View, ViewCost
from sdk.media.frames import Frame
from sdk.media.views.renderers import renderer
from sdk.power.dynamic import dynamic_energy
from sdk.power.meter import Meter

_ROUNDS = 10
"""Rounds over all graphs and views: what else the machine does meanwhile then hits all of them alike."""
_WARM_UP_RUNS = 3


def measure_costs(
    engine: Engine,
    manifest: Manifest,
    frame: Frame,
    runs: int = 50,
    meter: Meter | None = None,
    target: str | None = None,
) -> CostTable:
    """Costs of every graph of a target on each of its views, and of rendering each view from ``frame``.

    ``meter`` None leaves energies unknown. ``target``: what the engine was opened for.

    Raises: EngineError; MeterError if the meter does not know.
    """
    runs_of = graph_calls(engine, manifest, target)
    pairs = list(runs_of)
    memory: dict[str, float | None] = {}
    for (graph, _), call in runs_of.items():
        before = process_memory_mb()
        for _ in range(_WARM_UP_RUNS):
            call()
        memory[graph] = _held_mb(engine, graph, before, memory.get(graph))
    calls: list[Callable[[], object]] = list(runs_of.values())
    renderers = [renderer(view) for view in manifest.views]
    calls += [partial(renderer.render, frame) for renderer in renderers]
    timed = timed_in_turns(calls, runs)
    energy = None if meter is None else dynamic_energy(meter, calls)
    run_mj = [None] * len(calls) if energy is None else energy.run_mj
    rows = [_p50_p95(spent) | {"energy_mj": mj} for spent, mj in zip(timed, run_mj, strict=True)]
    of_graphs, of_views = rows[: len(pairs)], rows[len(pairs) :]
    return CostTable(
        device=device_name(),
        providers=(engine.provider,),
        threads=engine.threads,
        graphs=tuple(
            GraphCost(graph=graph, view=view, memory_mb=memory[graph], **row)
            for (graph, view), row in zip(pairs, of_graphs, strict=True)
        ),
        views=tuple(
            ViewCost(view=view.name, **row) for view, row in zip(manifest.views, of_views, strict=True)
        ),
        idle_w=None if energy is None else energy.idle_w,
        energy_source=None if meter is None else meter.source,
        runs=runs,
    )


def graph_calls(
    engine: Engine, manifest: Manifest, target: str | None = None
) -> dict[tuple[str, str], Callable[[], object]]:
    """A run on noise of each graph that a target has, by the graph and the (first) view that it takes.

    A graph is opened at its first run. Raises, when run: EngineError.
    """
    there = {graph.name for graph in manifest.graphs_of(target)}
    pairs = [pair for pair in _graphs_on_views(manifest) if pair[0] in there]
    return {
        (graph, view): partial(
            _run, engine, graph, noise_inputs(manifest.graph(graph), _taken_with(manifest, graph, view))
        )
        for graph, view in pairs
    }


def require_runs(runs: int) -> None:
    """Raises: ArgumentError if ``runs`` is less than 1."""
    if runs < 1:
        raise ArgumentError(f"runs {runs}", "is not a number of runs", "use 1 or more")


def _run(engine: Engine, graph: str, inputs: Mapping[str, Array]) -> object:
    return engine.graph(graph)(**inputs)


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


def _taken_with(manifest: Manifest, graph: str, view: str) -> dict[str, View]:
    """The views that a graph takes at once where it takes ``view``, by the names of its inputs."""
    policies: list[Policy] = [v.policy for v in manifest.variants if v.policy and v.policy.graph == graph]
    names = policies[0].inputs if policies else {view: "frame"}
    return {name: manifest.view(taken) for taken, name in names.items()}


def noise_inputs(graph: Graph, views: Mapping[str, View]) -> dict[str, Array]:
    """Noise for the ``views`` by input, zeros for the states; every group is there."""
    inputs: dict[str, Array] = {
        name: np.full([1 if size is None else size for size in tensor.shape], name == PRESENT, tensor.dtype)
        for name, tensor in graph.inputs.items()
    }
    for name, view in views.items():
        inputs[name] = np.random.default_rng(0).integers(0, 256, view.shape, np.uint8)
    return inputs


def timed_in_turns(calls: Sequence[Callable[[], object]], runs: int) -> list[list[float]]:
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


def _p50_p95(spent: Sequence[float]) -> dict[str, Any]:
    p50, p95 = np.percentile(spent, [50, 95])
    return {"p50_ms": float(p50), "p95_ms": float(p95)}
