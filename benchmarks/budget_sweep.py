"""Accuracy and energy of bundles under budgets from the cheapest to dense, against the static front.

    python -m benchmarks.budget_sweep BUNDLE... [--data DIR] [--budgets 9] [--clips 200]
        [--idle-mw 50] [--name NAME]

Budgets lie between what the cheapest options take and what the policy takes freely, and one is dense.
Costs of all bundles are measured first, in one run, with ``--meter`` (a model of 5 W while busy by
default). Then each bundle streams the validation clips in a shuffled order, once for every budget, on a
clock that is the clips' own time, and with a meter that counts what the cost table says of what ran, and an
idle device of ``--idle-mw``: 50 is about what the work takes, on one that takes much more a budget is easily
followed, and with 0 the work is all there is.
Reported for each: watts spent of those allowed, of all and of the work alone, accuracy, and the area under
accuracy over the work's energy (the best at no more energy, between the cheapest budget and dense; energy in
the logarithm and plain), beside that of the static front: the best fixed options on evenly spaced steps.
Without ``--data``: the built-in clips. Written to ``benchmarks/results/budget-sweep-<data>.json``.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.record import write
from benchmarks.validation import validation_clips
from compiler.data.clips import Clip
from runtimes.bundle import Bundle
from runtimes.engines.engine import open_engine
from runtimes.spec import CostTable
from sdk.benchmark.graph_costs import measure_costs
from sdk.budget.budget import Budget
from sdk.decisions.option_costs import run_energies
from sdk.media import StreamRequirements, decode_steps
from sdk.media.frames import Frame
from sdk.power import Meter, ModeledMeter, open_meter
from sdk.recognizer import StreamRecognizer
from sdk.results import Recognition

_SETTLING_CLIPS = 12
_PROHIBITIVE = 1e4
"""A price that nothing earns: what is left is the cheapest."""


class Point(NamedTuple):
    """What a way to run comes to: mJ a clip, and the share of clips that it gets right."""

    mj: float
    accuracy: float


class Clock:
    """The clips' own time, one after the other."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def read(self) -> float:
        """Seconds."""
        return self.now_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundles", type=Path, nargs="+")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--budgets", type=int, default=9)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--meter", default="modeled:0,5")
    parser.add_argument("--idle-mw", type=float, default=50.0)
    parser.add_argument("--name")
    arguments = parser.parse_args()
    bundles = [Bundle.open(path) for path in arguments.bundles]
    clips = validation_clips(arguments.data, bundles[0], arguments.clips)
    with open_meter(arguments.meter) as meter:
        for bundle in bundles:
            _measure(bundle, clips[0], meter)
    idle_w = 1e-3 * arguments.idle_mw
    sweeps = [_swept(bundle, clips, arguments.budgets, idle_w) for bundle in bundles]
    least = min(point.mj for sweep in sweeps for point in sweep["curve"])
    most = sweeps[0]["dense"].mj
    for sweep in sweeps:
        for name in ("curve", "static"):
            sweep[f"{name} area"] = _areas(sweep[name], least, most)
        sweep["of dense"] = _at_shares(sweep["curve"], sweep["dense"])
    name = arguments.name or (arguments.data.name if arguments.data else "built-in")
    circumstances = {"clips": len(clips), "meter": arguments.meter, "idle_w": idle_w}
    write(f"budget-sweep-{name}", circumstances | {"bundles": sweeps})
    for sweep in sweeps:
        _print(sweep)


def _measure(bundle: Bundle, clip: Clip, meter: Meter) -> None:
    """Keep the costs of this device beside the bundle: the recognizer and the static front go by them."""
    manifest = bundle.manifest
    frame = next(decode_steps(clip.path, StreamRequirements.of(manifest.steps, manifest.views)))
    with open_engine(bundle, "cpu") as engine:
        bundle.save_device_costs(measure_costs(engine, manifest, frame, meter=meter))


def _swept(bundle: Bundle, clips: Sequence[Clip], count: int, idle_w: float) -> dict[str, Any]:
    table, variant = bundle.device_costs()[0], bundle.variant(None)
    energies = run_energies(variant, table)
    assert energies is not None, "they have just been measured"
    rate_hz = bundle.manifest.steps.rate_hz
    dense_mj = sum(
        float(energies[1 + i])
        for i, option in enumerate(variant.action_space.options)
        if option.name in _dense_int8(bundle).split("+")
    )
    most_w = idle_w + (float(energies[0]) + dense_mj) * 1e-3 * rate_hz
    least_w, free_w = (_unbound_w(bundle, clips, idle_w, price) for price in (_PROHIBITIVE, 0.0))
    # Above what the policy takes freely a budget binds nothing: one such is enough.
    bound = np.geomspace(1.05 * (least_w - idle_w), free_w - idle_w, count - 1)
    budgets = [*(idle_w + bound), max(most_w, free_w)]
    rows = [_row(bundle, clips, idle_w, float(watts)) for watts in budgets]
    static, dense = _static(bundle, table)
    return {
        "bundle": bundle.location.name,
        "model": bundle.manifest.model,
        "cheapest_w": least_w,
        "free_w": free_w,
        "rows": rows,
        "curve": [Point(row["mj a clip"], row["accuracy"]) for row in rows],
        "static": static,
        "dense": dense,
    }


def _unbound_w(bundle: Bundle, clips: Sequence[Clip], idle_w: float, price: float) -> float:
    """Watts at a price, whatever they are."""
    run = _Run(bundle, idle_w, None, price=price)
    for clip in clips:
        run.clip(clip)
    return run.watts


def _row(bundle: Bundle, clips: Sequence[Clip], idle_w: float, watts: float) -> dict[str, Any]:
    run = _Run(bundle, idle_w, Budget(watts=watts))
    for clip in clips[:_SETTLING_CLIPS]:
        run.clip(clip)
    run.forget()
    for clip in clips:
        run.clip(clip)
    run.recognizer.close()
    return {
        "budget_w": watts,
        "spent_w": run.watts,
        "spent of allowed": run.watts / watts,
        "of the work": (run.watts - idle_w) / (watts - idle_w),
        "accuracy": float(np.mean(run.right)),
        "mj a clip": run.worked_mj / len(run.right),
        "price": float(np.median(run.prices)),
        "not met": run.not_met / max(len(run.prices), 1),
        "points": dict(run.ways.most_common()),
        "choices": dict(run.choices.most_common()),
    }


class _OnClipTime(StreamRecognizer):
    """Each step takes the time that it has in the clip, however fast it is run."""

    def __init__(self, bundle: Bundle, clock: Clock, **how: Any) -> None:
        super().__init__(bundle, "cpu", threads=1, clock=clock.read, **how)
        self._time = clock

    def _advance(self, frame: Frame, dropped: int = 0) -> Recognition:
        result = super()._advance(frame, dropped)
        self._time.now_s += 1 / self.rate_hz
        return result


class _Run:
    """One bundle's stream under one budget."""

    def __init__(self, bundle: Bundle, idle_w: float, budget: Budget | None, **choice: Any) -> None:
        self.clock, self._idle_w = Clock(), idle_w
        self._meter = ModeledMeter(idle_w, clock=self.clock.read)
        self.recognizer = _OnClipTime(bundle, budget=budget, meter=self._meter, clock=self.clock, **choice)
        self.forget()

    def forget(self) -> None:
        """Count from now."""
        self.right: list[bool] = []
        self.prices: list[float] = []
        self.choices: Counter[str] = Counter()
        self.ways: Counter[str] = Counter()
        self._began_j, self._began_s = self._meter.read() or 0.0, self.clock.now_s
        self.not_met = 0

    @property
    def spent_mj(self) -> float:
        """What the meter has counted since."""
        return 1e3 * ((self._meter.read() or 0.0) - self._began_j)

    @property
    def seconds(self) -> float:
        """How long that took."""
        return self.clock.now_s - self._began_s

    @property
    def watts(self) -> float:
        """Average power since, of the idle device and the work."""
        return self.spent_mj * 1e-3 / self.seconds

    @property
    def worked_mj(self) -> float:
        """What the work took since."""
        return self.spent_mj - 1e3 * self._idle_w * self.seconds

    def clip(self, clip: Clip) -> None:
        """One more clip: its steps at their own time."""
        recognized = self.recognizer.recognize(clip.path)
        for result in recognized.recognitions:
            self.prices.append(result.price)
            self.ways[result.point or "policy"] += 1
            self.choices[result.choice] += 1
            self.not_met += result.budget_met is False
        self.right.append(recognized.label == clip.label)


def _static(bundle: Bundle, table: CostTable) -> tuple[list[Point], Point]:
    """The manifest's static choices at the costs of ``table``; and the dense int8 one."""
    outcomes: list[Any] = bundle.manifest.accuracy["outcomes"]  # type: ignore[assignment]
    points = {}
    for outcome in outcomes:
        if outcome["kind"] == "static" and outcome["variant"] == bundle.manifest.default_variant:
            mj = _static_mj(bundle, table, outcome)
            points[outcome["name"]] = Point(mj, outcome["accuracy"])
    dense = [point for name, point in points.items() if name.rpartition(" x ")[0] == _dense_int8(bundle)]
    return list(points.values()), max(dense, key=lambda point: point.mj)


def _dense_int8(bundle: Bundle) -> str:
    """The largest branch of each group in int8, or in what it has: int8 may not have been worth its cost."""
    variant, names = bundle.variant(None), []
    for group in variant.action_space.groups:
        branches = [o for o in group.options if not o.skip and not variant.is_head(o)]
        largest = [o for o in branches if o.view == branches[0].view]
        names.append(next((o for o in largest if o.precision == "int8"), largest[0]).name)
    return "+".join(names)


def _static_mj(bundle: Bundle, table: CostTable, outcome: dict[str, Any]) -> float:
    """Per clip: as the manifest counted, in the proportion of this table to the one that it counted by."""
    variant = bundle.variant(None)
    names, _, count = outcome["name"].rpartition(" x ")
    options = {option.name: option for option in variant.action_space.options}
    chosen = [options[name] for name in names.split("+")]

    def step(of: CostTable) -> tuple[float, float]:
        branches = [option for option in chosen if not variant.is_head(option)]
        graphs = [(str(o.graph), str(o.view)) for o in branches]
        views = {view for _, view in graphs}
        if variant.policy is not None and len(branches) < len(chosen):
            graphs.append((variant.policy.graph, variant.policy.views[0]))
            views |= set(variant.policy.views)
        ms = sum(of.run_ms(*graph) for graph in graphs) + sum(map(of.view_ms, views))
        energies = [of.run_mj(*graph) for graph in graphs] + [of.view_mj(view) for view in views]
        return ms, sum(mj or 0.0 for mj in energies)

    packed_ms, _ = step(bundle.manifest.cost_tables[0])
    _, mj = step(table)
    steps = outcome["ms_per_clip"] / packed_ms  # fewer than ``count`` on short clips, or those that lack some
    return mj * min(steps, float(count))


def _areas(points: Sequence[Point], least: float, most: float) -> dict[str, float]:
    """Mean accuracy of the best point at no more energy, over energies from ``least`` to ``most``."""
    grids = {"log": np.geomspace(least, most, 200), "plain": np.linspace(least, most, 200)}
    return {name: float(np.mean([_best(points, mj) for mj in grid])) for name, grid in grids.items()}


def _best(points: Sequence[Point], mj: float) -> float:
    return max((point.accuracy for point in points if point.mj <= mj * (1 + 1e-9)), default=0.0)


def _at_shares(points: Sequence[Point], dense: Point) -> dict[str, float]:
    """The best accuracy at shares of dense int8's energy, less dense's own."""
    return {f"{share:.0%}": _best(points, share * dense.mj) - dense.accuracy for share in (0.5, 0.25)}


def _print(sweep: dict[str, Any]) -> None:
    print(f"{sweep['bundle']}: dense {sweep['dense'].accuracy:.3f} at {sweep['dense'].mj:.1f} mJ a clip")
    for row in sweep["rows"]:
        print(
            f"  {row['budget_w'] * 1e3:8.2f} mW allowed, {row['spent of allowed']:6.1%} spent "
            f"({row['of the work']:.0%} of the work's), "
            f"{row['mj a clip']:8.2f} mJ a clip, {row['accuracy']:.3f}, not met {row['not met']:.0%}"
        )
    print(
        f"  area {sweep['curve area']}, static front {sweep['static area']}; less dense: {sweep['of dense']}"
    )


if __name__ == "__main__":
    main()
