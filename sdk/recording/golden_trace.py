"""Decision traces: a short stream, step by step, such that a port in another language can be held against it.

A trace is one JSON object; docs/decision_trace.md says what its fields mean. It is made with any target of
a bundle, and holds what a port can check part by part: the views that it renders (by hash), the scores that
its runtime computes, the choices that follow from these, and the scores that it fuses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from runtimes.bundle import Bundle
from runtimes.engines.engine import Array, Engine, GraphRunner, open_engine
from runtimes.spec import LOGITS, ActionSpace, Manifest, Variant
from runtimes.spec import Fusion as FusionSpec
from sdk.decisions.choosers import LearnedChoice
from sdk.decisions.decision import Observation
from sdk.decisions.decision_loop import DecisionLoop
from sdk.decisions.fusion import Fusion, StepFusion
from sdk.decisions.option_costs import option_costs
from sdk.decisions.step_pipeline import Pipeline
from sdk.errors import RecordingError, redact
from sdk.media.requirements import StreamRequirements
from sdk.media.steps import decode_steps
from sdk.results import Recognition

FORMAT = 1


def trace_decisions(
    bundle: Bundle,
    source: str,
    *,
    target: str | None = None,
    variant: str | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """The trace of a source (a file or a test pattern) with a variant that has a policy, at its own price.

    Options are priced by the bundle's first cost table, not by this device's.

    Raises: AdaptiveVideoError if the variant has no policy or the bundle no costs; EngineError; SourceError.
    """
    with open_engine(bundle, device, target=target) as engine:
        return trace_engine(engine, bundle, source, target=target, variant=variant)


def trace_engine(
    engine: Engine, bundle: Bundle, source: str, *, target: str | None = None, variant: str | None = None
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
        steps.append(_step(pipeline, recognition, manifest, chosen, listening.heard))
    return {
        "decision_trace": FORMAT,
        "source": redact(source),
        "labels": list(manifest.labels),
        "action_space": chosen.action_space.model_dump(mode="json"),
        "fusion": manifest.fusion.model_dump(mode="json"),
        "costs": costs.tolist(),
        "steps": steps,
    }


@dataclass
class _Call:
    """One run of a graph."""

    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]


@dataclass
class _ListeningEngine:
    """An engine whose graphs note what they are given and what they answer, by their names."""

    engine: Engine
    heard: dict[str, _Call] = field(default_factory=dict)

    def graph(self, name: str) -> GraphRunner:
        """The engine's own graph, listened to. Raises: EngineError."""
        runner = self.engine.graph(name)

        def run(**inputs: Array) -> dict[str, Array]:
            outputs = runner(**inputs)
            self.heard[name] = _Call(inputs, outputs)
            return outputs

        return run

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)


def _step(
    pipeline: Pipeline,
    recognition: Recognition,
    manifest: Manifest,
    variant: Variant,
    heard: Mapping[str, _Call],
) -> dict[str, Any]:
    trace, top = pipeline.trace, dict(recognition.top)
    logits = {}
    for option in trace.decision.options:
        if option.graph is not None:
            output = variant.head_outputs.get(option.name, LOGITS)
            logits[option.name] = heard[option.graph].outputs[output][0].tolist()
    return {
        "time_s": recognition.time_s,
        "views": _views(variant, heard, trace.decision.options),
        "absent_views": sorted(trace.absent_views),
        "price": trace.decision.price,
        "scores": None if trace.scores is None else trace.scores.tolist(),
        "choice": recognition.choice,
        "logits": logits,
        "fused": [top[label] for label in manifest.labels] if top else None,
    }


def _views(variant: Variant, heard: Mapping[str, _Call], options: Any) -> dict[str, str]:
    """SHA-256 of the bytes of every view that was rendered, row by row, by its name."""
    views = {}
    if variant.policy is not None and variant.policy.graph in heard:
        inputs = heard[variant.policy.graph].inputs
        views = {view: _sha256(inputs[entry]) for view, entry in variant.policy.inputs.items()}
    for option in options:
        if option.graph is not None and option.view is not None and not variant.is_head(option):
            views[option.view] = _sha256(heard[option.graph].inputs["frame"])
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

    Raises: AdaptiveVideoError if the trace's format is another.
    """
    if trace.get("decision_trace") != FORMAT:
        reason = f"has format {trace.get('decision_trace')}, and {FORMAT} is known here"
        raise RecordingError("decision trace", reason, "trace the stream again")
    space = ActionSpace.model_validate(trace["action_space"])
    fusion = FusionSpec.model_validate(trace["fusion"])
    options = {option.name: option for option in space.options}
    loop = DecisionLoop(LearnedChoice(space, np.array(trace["costs"])))
    standing = loop.chooser.standing_plan
    step_fusion, over_steps = StepFusion(fusion, space), Fusion(fusion.window)
    again = []
    for number, step in enumerate(trace["steps"]):
        observation = Observation(np.array(step["scores"]), step["absent_views"])
        decision = loop.decide(observation, replace(standing, price=step["price"]))
        answers = [(options[name], np.array(logits)) for name, logits in step["logits"].items()]
        fused = over_steps.update(step_fusion.fuse(answers) if answers else None)
        apart = 0.0 if fused is None else float(np.abs(fused - np.array(step["fused"])).max())
        again.append(RepeatedDecision(number, decision.name, apart))
    return again
