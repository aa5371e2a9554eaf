"""From trained networks to a bundle: split, verify, profile and write."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from pydantic import JsonValue

from compiler.bundle_plan import BundlePlan
from compiler.console import Console
from compiler.data.cache import ClipCache
from compiler.export.split import Split, split, write_again
from compiler.gate import Gate, require
from compiler.gates.integer_layers import verify_integers
from compiler.gates.other_targets import verify_target
from compiler.gates.parity import verify_graphs, verify_streaming
from compiler.manifest import manifest_fields, provenance
from compiler.measuring.evaluation import Evaluator
from compiler.measuring.price_response import price_response
from compiler.measuring.profile import Profile, measure, profile
from compiler.operating_points.choosing import Judged, choose_front
from compiler.operating_points.evaluating import Evaluation, evaluate_front
from compiler.operating_points.evidence import evidence_gate, save_evidence
from compiler.operating_points.folds import Folds
from compiler.operating_points.gathering import gather
from compiler.report.report import verdicts, write_report
from compiler.request import Request
from compiler.targets import Target
from compiler.training.training import Training
from compiler.variants import TrainedVariants
from models.recipe import Recipe
from runtimes.bundle import Bundle, write_bundle
from runtimes.engines.engine import Engine, open_engine
from runtimes.spec import CostTable, Variant

_GATE_CLIPS, _MORE_GATE_CLIPS = 24, 128
_STREAMED_CLIPS = 8
"""How many validation clips the gates look at: enough for their limits, and large sets take no longer."""


def pack(
    request: Request,
    training: Training,
    trained: TrainedVariants,
    recipe: Recipe,
    console: Console,
    folds: Folds | None = None,
) -> Bundle:
    """Split, verify, profile and write: nothing is at the request's ``out`` before every gate has passed.

    ``folds``: how operating points are judged; None for a bundle without any.

    Raises: CompileError, BundleError.
    """
    plan, val = trained.plan, training.cache.split("val")
    run_here = [target.run_here for target in request.targets]
    with tempfile.TemporaryDirectory(prefix="adaptive-compile-") as scratch:
        graphs = Path(scratch) / "graphs"
        graphs.mkdir()
        console.stage("split")
        parts = split(plan, run_here, graphs)
        fields = manifest_fields(training, request.model.preset, request.target.name, parts)
        fields["provenance"] = provenance(request, training, recipe)
        draft = write_bundle(Path(scratch) / "draft.bundle", graphs, fields)
        console.stage("verify")
        draft, gates = _measured_and_verified(request, draft, training.cache, trained)
        gates = [*parts.gates, *gates, *_streaming_gates(draft, run_here, plan, training.cache)]
        _require(gates, console)
        (costs,) = draft.manifest.cost_tables
        if folds is not None:
            console.stage("judge operating points")
        judged = _judged(folds, trained, costs)
        evidence = [evidence_gate(one, save_evidence(one, graphs)) for one in judged]
        _require(evidence, console)
        gates += evidence
        fronts = tuple(one.front for one in judged)
        draft = replace(draft, manifest=draft.manifest.model_copy(update={"fronts": fronts}))
        console.stage("profile")
        with open_engine(draft, "cpu") as engine:
            measured = profile(draft, engine, costs, training.cache, val, console.note)
            evaluations = _evaluated(judged, draft, engine, training.cache, console)
        console.stage("pack")
        accuracy = _accuracy(draft, measured, gates, trained, evaluations)
        report = write_report(
            draft.manifest, measured, gates, training.cache, trained.measured, trained.lines, evaluations
        )
        (graphs / "report.html").write_text(report, "utf-8")
        packed = _write(request, draft, parts, plan, graphs, fields | {"accuracy": accuracy})
    _report(request, packed, measured, console, evaluations)
    return packed


def _measured_and_verified(
    request: Request, draft: Bundle, cache: ClipCache, trained: TrainedVariants
) -> tuple[Bundle, list[Gate]]:
    """The draft with the costs of this machine and its variants' prices, and the gates of its graphs."""
    val = cache.split("val")
    with open_engine(draft, "cpu") as engine, request.measuring.open_meter() as meter:
        gates = verify_graphs(
            draft, engine, trained.plan, cache, _spread(val, _GATE_CLIPS), _spread(val, _MORE_GATE_CLIPS)
        )
        gates += verify_integers(draft, request.target.run_here)
        costs = measure(draft, engine, cache, val, meter)
        variants = _priced(draft.manifest.variants, trained.price)
        variants = _responding(variants, draft, engine, cache, _spread(val, _GATE_CLIPS), costs)
    amended = draft.manifest.model_copy(update={"cost_tables": (costs,), "variants": variants})
    return replace(draft, manifest=amended), gates


def _require(gates: Sequence[Gate], console: Console) -> None:
    """Report how gates went. Raises: CompileError if one did not pass."""
    for gate in gates:
        console.note(f"{'passed' if gate.passed else 'FAILED'}: {gate.name}: {gate.saw}")
    require(gates)


def _judged(folds: Folds | None, trained: TrainedVariants, costs: CostTable) -> list[Judged]:
    """The front of every variant, by clips that its networks were not trained on."""
    if folds is None:
        return []
    answers = folds.answers(trained, costs)
    judged_on, longest = folds.description, folds.untrained.cache.clip_steps
    return [choose_front(name, one, costs, judged_on, longest) for name, one in answers.items()]


def _evaluated(
    judged: Sequence[Judged], draft: Bundle, engine: Engine, cache: ClipCache, console: Console
) -> list[Evaluation]:
    """What every front comes to on the validation clips."""
    found = []
    (costs,) = draft.manifest.cost_tables
    for one in judged:
        name = one.front.variant
        evaluator = Evaluator(draft.manifest, draft.manifest.variant(name), engine, cache, cache.split("val"))
        with console.progress(f"{name}: operating points on validation clips") as advance:
            answers = gather(evaluator, costs, advance)
        found.append(evaluate_front(one.front, answers, costs))
    return found


def _streaming_gates(
    draft: Bundle, targets: Sequence[Target], plan: BundlePlan, cache: ClipCache
) -> list[Gate]:
    """Streams against offline evaluation, and every further target against the bundle's own."""
    val = cache.split("val")
    gates = verify_streaming(draft, plan, cache, _spread(val, _STREAMED_CLIPS))
    for target in targets[1:]:
        shares = (_spread(val, count) for count in (_GATE_CLIPS, _MORE_GATE_CLIPS, _STREAMED_CLIPS))
        gates += verify_target(draft, target, plan, cache, *shares)
    return gates


def _write(
    request: Request, draft: Bundle, parts: Split, plan: BundlePlan, graphs: Path, fields: dict[str, object]
) -> Bundle:
    """The bundle itself, with the own graphs of targets that others stood in for."""
    own = write_again(parts, plan, request.targets, graphs).graphs
    manifest = draft.manifest
    measured = {
        "cost_tables": manifest.cost_tables,
        "variants": manifest.variants,
        "fronts": manifest.fronts,
    }
    return write_bundle(request.out, graphs, fields | measured | {"graphs": own})


def _accuracy(
    draft: Bundle,
    measured: Profile,
    gates: Sequence[Gate],
    trained: TrainedVariants,
    evaluations: Sequence[Evaluation],
) -> dict[str, JsonValue]:
    return {
        **measured.to_json(),
        "verdicts": list(verdicts(draft.manifest, measured, evaluations)),
        "operating_points": [one.to_json() for one in evaluations],
        "gates": [asdict(gate) for gate in gates],
        "precisions": [one.to_json() for one in trained.measured],
        "dropped": list(trained.lines),
    }


def _report(
    request: Request,
    packed: Bundle,
    measured: Profile,
    console: Console,
    evaluations: Sequence[Evaluation],
) -> None:
    """What was not run of a target, and what the bundle's policies achieve."""
    for target in request.targets:
        if target.stand_in is not None:
            console.note(
                f"{target.name}: its graphs for {target.providers[0]} do not run on this machine; the same "
                f"networks for {target.stand_in} were checked and measured in their place"
            )
    for line in verdicts(packed.manifest, measured, evaluations):
        console.note(line)


def _priced(variants: tuple[Variant, ...], price: float | None) -> tuple[Variant, ...]:
    """The variants with the price that was chosen after training."""
    if price is None:
        return variants
    return tuple(variant.model_copy(update={"price": price}) for variant in variants)


def _responding(
    variants: tuple[Variant, ...],
    bundle: Bundle,
    engine: Engine,
    cache: ClipCache,
    clips: list[int],
    costs: CostTable,
) -> tuple[Variant, ...]:
    """The variants with how their policies respond to the price."""

    def responding(variant: Variant) -> Variant:
        if variant.policy is None:
            return variant
        evaluator = Evaluator(bundle.manifest, variant, engine, cache, clips)
        return variant.model_copy(update={"response": price_response(evaluator, costs)})

    return tuple(map(responding, variants))


def _spread(clips: list[int], count: int) -> list[int]:
    """At most ``count`` of the clips, evenly spread (clips lie class by class)."""
    return [clips[i * len(clips) // count] for i in range(count)] if len(clips) > count else clips
