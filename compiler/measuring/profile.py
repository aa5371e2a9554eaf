"""What a compiled bundle is worth: every way to run it, by accuracy and measured cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydantic import JsonValue

from compiler.data.cache import ClipCache
from compiler.measuring.evaluation import (
    Evaluator,
    Outcome,
    Step,
    best_static_within,
    learned_outcome,
    random_outcome,
    static_front,
    static_outcomes,
)
from compiler.training.policy.price_selection import PRICES
from runtimes.bundle import Bundle
from runtimes.engines.engine import Engine
from runtimes.spec import CostTable, Variant
from sdk.benchmark.graph_costs import measure_costs
from sdk.decisions.choosers import LearnedChoice
from sdk.decisions.option_costs import most_expensive_choice, option_costs
from sdk.media import StreamRequirements, decode_steps
from sdk.power import Meter
from sdk.recognizer import StreamRecognizer

RANDOM_SEEDS = (0, 1, 2)
_END_TO_END_CLIPS = 12
_TIMELINE_CLIPS = 8


@dataclass(frozen=True)
class EndToEnd:
    """Wall time of whole clips through the SDK, decoding included: median and 95th percentile, ms a clip."""

    name: str
    variant: str
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True)
class Timeline:
    """What was chosen at each step of one clip, and the label after it."""

    clip: int
    variant: str
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Profile:
    """Costs on this device, and every outcome over the validation clips."""

    costs: CostTable
    outcomes: tuple[Outcome, ...]
    end_to_end: tuple[EndToEnd, ...]
    timelines: tuple[Timeline, ...]
    dense_choice: Mapping[str, str]
    """Of each variant: its dense choice, a branch of each group, as ``most_expensive_choice`` names them."""

    def of(self, variant: str, kind: str) -> list[Outcome]:
        """The outcomes of one variant and kind: static, random, adaptive or curve."""
        return [o for o in self.outcomes if o.variant == variant and o.kind == kind]

    def adaptive(self, variant: str) -> Outcome | None:
        """The learned policy at the compiled price; None where the app chooses."""
        return next(iter(self.of(variant, "adaptive")), None)

    def dense(self, variant: str) -> Outcome:
        """The most expensive branches on every step."""
        branches = self.dense_choice[variant]
        dense = [o for o in self.of(variant, "static") if o.point and o.point.running == branches]
        return max(dense, key=_count)

    def front(self, variant: str) -> list[Outcome]:
        """The static front of one variant."""
        return static_front(self.of(variant, "static"))

    def to_json(self) -> dict[str, JsonValue]:
        """Every number, for the manifest."""
        rows: list[JsonValue] = [
            {
                "name": o.name,
                "variant": o.variant,
                "kind": o.kind,
                "accuracy": round(o.accuracy, 5),
                "ms_per_clip": round(o.mean_ms, 4),
                "mj_per_clip": None if o.mean_mj is None else round(o.mean_mj, 4),
                "choices": dict(o.choices.most_common()),
            }
            for o in self.outcomes
        ]
        spans: list[JsonValue] = [
            {"name": e.name, "variant": e.variant, "p50_ms": round(e.p50_ms, 3), "p95_ms": round(e.p95_ms, 3)}
            for e in self.end_to_end
        ]
        return {"clips": len(self.outcomes[0].correct), "outcomes": rows, "end_to_end": spans}


def measure(
    bundle: Bundle, engine: Engine, cache: ClipCache, clips: Sequence[int], meter: Meter | None = None
) -> CostTable:
    """The cost table of this device, views rendered from a real clip's frame."""
    manifest = bundle.manifest
    frames = decode_steps(cache.clips[clips[0]].path, StreamRequirements.of(manifest.steps, manifest.views))
    return measure_costs(engine, manifest, next(frames), meter=meter)


def profile(
    bundle: Bundle,
    engine: Engine,
    costs: CostTable,
    cache: ClipCache,
    clips: Sequence[int],
    progress: Callable[[str], None],
) -> Profile:
    """Run every static choice, random choices and the learned policy over the clips, in every variant."""
    outcomes: list[Outcome] = []
    timelines: list[Timeline] = []
    for variant in bundle.manifest.variants:
        evaluator = Evaluator(bundle.manifest, variant, engine, cache, clips)
        progress(f"{variant.name}: static choices")
        outcomes += static_outcomes(evaluator, costs)
        if variant.policy is None:
            continue
        progress(f"{variant.name}: random and learned choices")
        outcomes += [random_outcome(evaluator, costs, seed) for seed in RANDOM_SEEDS]
        outcomes.append(learned_outcome(evaluator, costs, variant.price, "adaptive"))
        for price in PRICES:
            curve = learned_outcome(evaluator, costs, price, f"adaptive at price {price:g}")
            outcomes.append(replace(curve, kind="curve"))
        timelines += _timelines(evaluator, costs, variant)
    progress("whole clips through the SDK")
    end_to_end = _end_to_end(bundle, cache, clips, costs)
    dense = {v.name: most_expensive_choice(v, option_costs(v, costs)) for v in bundle.manifest.variants}
    return Profile(costs, tuple(outcomes), tuple(end_to_end), tuple(timelines), dense)


def _timelines(evaluator: Evaluator, costs: CostTable, variant: Variant) -> list[Timeline]:
    """One clip of each of the first labels."""
    chosen: dict[int, int] = {}
    for clip in evaluator.clips:
        chosen.setdefault(evaluator.cache.target(clip), clip)
    chooser = LearnedChoice(variant.action_space, option_costs(variant, costs), variant.price)
    return [
        Timeline(clip, variant.name, tuple(evaluator.roll_out(clip, chooser)))
        for _, clip in sorted(chosen.items())[:_TIMELINE_CLIPS]
    ]


def _end_to_end(bundle: Bundle, cache: ClipCache, clips: Sequence[int], costs: CostTable) -> list[EndToEnd]:
    """Dense and adaptive in every variant, in turns clip by clip, so that load on the machine hits all."""
    spread = np.linspace(0, len(clips) - 1, min(_END_TO_END_CLIPS, len(clips))).astype(int)
    paths = [cache.clips[clips[i]].path for i in spread]
    recognizers: list[tuple[str, str, StreamRecognizer]] = []
    try:
        for variant in bundle.manifest.variants:
            dense = most_expensive_choice(variant, option_costs(variant, costs))
            dense_one = StreamRecognizer(bundle, "cpu", variant=variant.name, fixed=dense)
            recognizers.append((f"dense {dense}", variant.name, dense_one))
            if variant.policy is not None:
                adaptive = StreamRecognizer(bundle, "cpu", variant=variant.name)
                recognizers.append(("adaptive", variant.name, adaptive))
        spent: list[list[float]] = [[] for _ in recognizers]
        for path in (paths[0], *paths):  # the first once more, to warm up
            for row, (_, _, recognizer) in zip(spent, recognizers, strict=True):
                began = time.perf_counter()
                recognizer.recognize(path)
                row.append((time.perf_counter() - began) * 1e3)
    finally:
        for _, _, recognizer in recognizers:
            recognizer.close()
    percentiles = [np.percentile(row[1:], (50, 95)) for row in spent]
    return [
        EndToEnd(name, variant, float(p50), float(p95))
        for (name, variant, _), (p50, p95) in zip(recognizers, percentiles, strict=True)
    ]


def verdict(profile: Profile, variant: str) -> str:
    """The answer to the honest question: is adaptive better than the static front at equal measured cost?"""
    adaptive, dense = profile.adaptive(variant), profile.dense(variant)
    if adaptive is None:
        return _menu(profile, variant)
    clips = len(adaptive.correct)
    at = f"{adaptive.accuracy:.1%} at {_cost(adaptive)} a clip"
    share = f"{adaptive.mean_ms / dense.mean_ms:.0%} of {dense.name}'s {_cost(dense)}"
    static = best_static_within(profile.front(variant), adaptive.mean_ms)
    if static is None:
        return f"Adaptive {variant} has no static rival as cheap: {at} ({share}, {dense.accuracy:.1%})."
    difference, error = paired_difference(adaptive, static)
    if abs(difference) < 2 * error or (difference == 0 and error == 0):
        word = "is level with"
    else:
        word = "is ahead of" if difference > 0 else "is behind"
    rival = f"{static.accuracy:.1%} of {static.name} ({_cost(static)})"
    margin = f"difference {difference:+.1%} ± {2 * error:.1%} on {clips} clips"
    return (
        f"Adaptive {variant} {word} the static front at no more measured cost: "
        f"{at} against {rival}, {margin}; {share} ({dense.accuracy:.1%})."
    )


def _cost(outcome: Outcome) -> str:
    energy = "" if outcome.mean_mj is None else f", {outcome.mean_mj:.2f} mJ"
    return f"{outcome.mean_ms:.2f} ms{energy}"


def _menu(profile: Profile, variant: str) -> str:
    """What the app may choose among: every option on every frame."""
    static = profile.of(variant, "static")
    every_frame = max(map(_count, static))
    dense = [outcome for outcome in static if _count(outcome) == every_frame]
    entries = (f"{o.name}: {o.accuracy:.1%} at {_cost(o)} a clip" for o in dense)
    return f"The app chooses; {'; '.join(entries)}."


def paired_difference(one: Outcome, other: Outcome) -> tuple[float, float]:
    """Mean difference in accuracy over the same clips, and its standard error."""
    difference = one.correct.astype(float) - other.correct.astype(float)
    return float(difference.mean()), float(difference.std() / np.sqrt(len(difference)))


def _count(outcome: Outcome) -> int:
    """On how many steps of a clip a fixed choice runs."""
    return outcome.point.count if outcome.point else 0
