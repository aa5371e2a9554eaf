"""Decision traces: a short stream, step by step, such that a port in another language can be held against it.

A trace is one JSON object; docs/decision_trace.md says what its fields mean. It is made with any target of
a bundle, and holds what a port can check part by part: the views that it renders (by hash), the scores that
its runtime computes, the choices that follow from these, and the scores that it fuses.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from runtimes.bundle import Bundle
from runtimes.engines.engine import Array, Engine, GraphRunner, open_engine
from runtimes.spec import LOGITS, Manifest, Option, Variant
from sdk.decisions.choosers import LearnedChoice
from sdk.decisions.decision import Observation, Plan
from sdk.decisions.decision_loop import DecisionLoop
from sdk.decisions.fusion import Fusion, StepFusion
from sdk.decisions.option_costs import option_costs
from sdk.decisions.step_pipeline import Pipeline
from sdk.errors import RecordingError, redact
from sdk.media.requirements import StreamRequirements
from sdk.media.steps import decode_steps
from sdk.recording.trace_format import FORMAT, TraceStep, read_trace
from sdk.results import Recognition


def trace_decisions(
    bundle: str | os.PathLike[str] | Bundle,
    source: str | os.PathLike[str],
    *,
    target: str | None = None,
    variant: str | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """The trace of a source (a file or a test pattern) with a variant that has a policy, at its own price.

    ``bundle``: its path, or the bundle opened. Options are priced by the bundle's first cost table, not by
    this device's.

    Raises: BundleError; AdaptiveVideoError if the variant has no policy or the bundle no costs; EngineError;
    SourceError.
    """
    if not isinstance(bundle, Bundle):
        bundle = Bundle.open(bundle)
    with open_engine(bundle, device, target=target) as engine:
        return trace_engine(engine, bundle, source, target=target, variant=variant)


def trace_engine(
    engine: Engine,
    bundle: Bundle,
    source: str | os.PathLike[str],
    *,
    target: str | None = None,
    variant: str | None = None,
) -> dict[str, Any]:
    """The same, of an engine that is open for the target.

    Raises: as ``trace_decisions``.
    """
    manifest, chosen = bundle.manifest, bundle.variant(variant, target)
    if chosen.policy is None or not manifest.cost_tables:
        fix = "use one with a policy and a cost table"
        raise RecordingError(f"variant {chosen.name}", "has no decisions to trace", fix)
    costs = option_costs(chosen, manifest.cost_tables[0])
    chooser = LearnedChoice(chosen.action_space, costs, chosen.price)
    listening = _ListeningEngine(engine)
    pipeline = Pipeline(manifest, chosen, listening, chooser, top=len(manifest.labels))
    steps = []
    for frame in decode_steps(source, StreamRequirements.of(manifest.steps, manifest.views)):
        listening.heard.clear()
        recognition = pipeline.advance(frame)
        heard = _heard(pipeline, chosen, listening.heard)
        steps.append(_step(pipeline, recognition, chosen, manifest, heard))
    return {
        "decision_trace": FORMAT,
        "source": redact(os.fspath(source)),
        "labels": list(manifest.labels),
        "action_space": chosen.action_space.model_dump(mode="json"),
        "fusion": manifest.fusion.model_dump(mode="json"),
        "costs": costs.tolist(),
        "steps": steps,
    }


@dataclass
class _Call:
    """One run of a graph."""

    graph: str
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]


@dataclass
class _ListeningEngine:
    """An engine whose graphs note what they are given and what they answer, in the order of their runs."""

    engine: Engine
    heard: list[_Call] = field(default_factory=list)

    def graph(self, name: str) -> GraphRunner:
        """The engine's own graph, listened to. Raises: EngineError."""
        runner = self.engine.graph(name)

        def run(**inputs: Array) -> dict[str, Array]:
            outputs = runner(**inputs)
            self.heard.append(_Call(name, inputs, outputs))
            return outputs

        return run

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)


@dataclass(frozen=True)
class _Heard:
    """The runs of one step: the policy's, None where it was not run, and each branch's by its option."""

    policy: _Call | None
    branches: Sequence[tuple[Option, _Call]]


def _heard(pipeline: Pipeline, variant: Variant, calls: Sequence[_Call]) -> _Heard:
    """Whose run each call of a step was: options of several groups may share a graph, and run in their order.

    Raises: RecordingError if a chosen option was not run.
    """
    graph = None if variant.policy is None else variant.policy.graph
    policy = next((call for call in calls if call.graph == graph), None)
    branches = [call for call in calls if call.graph != graph]
    chosen = [o for o in pipeline.trace.decision.options if o.graph is not None and not variant.is_head(o)]
    if [option.graph for option in chosen] != [call.graph for call in branches]:
        reason = f"something of {', '.join(option.name for option in chosen)} could not be rendered"
        raise RecordingError("source", reason, "trace one that is not damaged")
    return _Heard(policy, list(zip(chosen, branches, strict=True)))


def _step(
    pipeline: Pipeline, recognition: Recognition, variant: Variant, manifest: Manifest, heard: _Heard
) -> dict[str, Any]:
    trace, top = pipeline.trace, dict(recognition.top)
    logits = {}
    runs = {option.name: call for option, call in heard.branches}
    for option in trace.decision.options:
        if option.graph is not None:
            call = heard.policy if variant.is_head(option) else runs[option.name]
            assert call is not None, "a head is chosen only where the policy was run"
            logits[option.name] = call.outputs[variant.head_outputs.get(option.name, LOGITS)][0].tolist()
    return {
        "time_s": recognition.time_s,
        "views": _views(variant, heard),
        "absent_views": sorted(trace.absent_views),
        "price": trace.decision.price,
        "scores": None if trace.scores is None else trace.scores.tolist(),
        "choice": recognition.choice,
        "logits": logits,
        "fused": [top[label] for label in manifest.labels] if top else None,
    }


def _views(variant: Variant, heard: _Heard) -> dict[str, str]:
    """SHA-256 of the bytes of every view that was rendered, row by row, by its name."""
    views = {}
    if variant.policy is not None and heard.policy is not None:
        inputs = heard.policy.inputs
        views = {view: _sha256(inputs[entry]) for view, entry in variant.policy.inputs.items()}
    for option, call in heard.branches:
        if option.view is not None:
            views[option.view] = _sha256(call.inputs["frame"])
    return views


def _sha256(pixels: Array) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


@dataclass(frozen=True, slots=True)
class RepeatedDecision:
    """A step of a trace decided again: the choice, and the largest difference of a fused score."""

    step: int
    choice: str
    fused_apart: float


def decide_again(trace: Mapping[str, Any]) -> list[RepeatedDecision]:
    """Choices from a trace's scores, and fused scores from its logits: what any port has to make of them.

    Raises: RecordingError if the trace's format is another, or it lacks something or is malformed.
    """
    known = read_trace(trace)
    space = known.action_space
    options = {option.name: option for option in space.options}
    loop = DecisionLoop(LearnedChoice(space, np.array(known.costs)))
    standing = loop.chooser.standing_plan
    step_fusion, over_steps = StepFusion(known.fusion, space), Fusion(known.fusion.window)
    again = []
    for number, step in enumerate(known.steps):
        decision = loop.step(partial(_observed, number, step), replace(standing, price=step.price))
        answers = [(options[name], np.array(logits)) for name, logits in step.logits.items()]
        fused = over_steps.update(step_fusion.fuse(answers) if answers else None)
        apart = 0.0 if fused is None else float(np.abs(fused - np.array(step.fused)).max())
        again.append(RepeatedDecision(number, decision.name, apart))
    return again


def _observed(number: int, step: TraceStep, plan: Plan) -> Observation:
    """What a step was decided by. Raises: RecordingError if that is not in the trace."""
    if step.scores is None:
        reason = f"is malformed: step {number}: is held by no skip before it, and has no scores"
        raise RecordingError("decision trace", reason, "trace the stream again")
    return Observation(np.array(step.scores), step.absent_views)
