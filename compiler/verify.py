"""The gates a compile must pass before its bundle is worth having; each says what it saw."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from compiler.data.cache import ClipCache
from compiler.errors import CompileError
from compiler.evaluate import Evaluator
from models.adaptive import POLICY, AdaptiveModel, argmax_sampler, pixels
from models.policy import RecurrentPolicy, State
from runtimes.bundle import Bundle
from runtimes.engine import Engine
from runtimes.spec import Graph, Option, Variant, View
from sdk.recognizer import StreamRecognizer
from sdk.scheduler import LearntChoice

FLOAT_TOLERANCE = 1e-4
INTEGER_AGREEMENT = 0.99
TIED_AGREEMENT = 0.95
TIE = 0.05


@dataclass(frozen=True)
class Gate:
    """One check: what it compared, what it saw, and whether that is good enough."""

    name: str
    saw: str
    passed: bool


def require(gates: Sequence[Gate]) -> None:
    """Raises: CompileError that names the gates that did not pass and what they saw."""
    failed = [gate for gate in gates if not gate.passed]
    if failed:
        seen = "; ".join(f"{gate.name}: {gate.saw}" for gate in failed)
        raise CompileError("verification", seen, "no bundle was written; the trained weights are kept")


@dataclass(frozen=True)
class Reference:
    """The torch networks behind the graphs, by branch name and ``POLICY``, for each precision."""

    model: AdaptiveModel
    networks: Mapping[str, Mapping[str, nn.Module]]


def verify_graphs(
    bundle: Bundle, engine: Engine, reference: Reference, cache: ClipCache, clips: Sequence[int]
) -> list[Gate]:
    """Each graph against its torch network on every step of some validation clips.

    float: largest difference of any output. int8: how often the top label (and the policy's top option)
    is the same as the quantisation-aware network's.
    """
    gates = []
    for variant in bundle.manifest.variants:
        networks = reference.networks[variant.name]
        compare = _policy_gate(bundle, variant, engine, networks[POLICY], cache, clips)
        gates.append(compare)
        for option in variant.action_space.options:
            if option.graph is not None and option.graph != variant.policy.graph:
                network = networks[option.name]
                gates.append(_branch_gate(bundle, option, engine, network, cache, clips))
    return gates


def _branch_gate(
    bundle: Bundle,
    option: Option,
    engine: Engine,
    network: nn.Module,
    cache: ClipCache,
    clips: Sequence[int],
) -> Gate:
    assert option.graph is not None and option.view is not None and option.precision is not None
    run, view = engine.graph(option.graph), bundle.manifest.view(option.view)
    got, wanted = [], []
    for clip in clips:
        frames = np.array(cache.frames(clip, view.name))
        got += [run(frame=frame[None])["logits"][0] for frame in frames]
        with torch.no_grad():
            wanted += list(network(pixels(torch.from_numpy(frames), view)).numpy())
    return _compared(option.graph, option.precision, [(np.asarray(got), np.asarray(wanted))])


def _policy_gate(
    bundle: Bundle,
    variant: Variant,
    engine: Engine,
    network: nn.Module,
    cache: ClipCache,
    clips: Sequence[int],
) -> Gate:
    """Both sides are given the state of the torch network, so that one early difference counts once."""
    assert isinstance(network, RecurrentPolicy)
    run, view = engine.graph(variant.policy.graph), bundle.manifest.view(variant.policy.view)
    got: dict[str, list[NDArray[np.floating]]] = {"scores": [], "logits": []}
    wanted: dict[str, list[NDArray[np.floating]]] = {"scores": [], "logits": []}
    for clip in clips:
        state = network.initial_state(1)
        for frame in np.array(cache.frames(clip, view.name)):
            outputs = run(frame=frame[None], h=state.h.numpy(), c=state.c.numpy())
            with torch.no_grad():
                answer = _advance(network, frame, view, state)
            for name, value in (("scores", answer[0]), ("logits", answer[1])):
                got[name].append(np.asarray(outputs[name][0], np.float32))
                wanted[name].append(value.numpy()[0])
            state = answer[2]
    pairs = [(np.asarray(got[name]), np.asarray(wanted[name])) for name in got]
    return _compared(variant.policy.graph, bundle.manifest.graph(variant.policy.graph).precision, pairs)


def _advance(
    network: RecurrentPolicy, frame: NDArray[np.uint8], view: View, state: State
) -> tuple[torch.Tensor, torch.Tensor, State]:
    return network.advance(network.embed(pixels(torch.from_numpy(frame[None]), view)), state)


def _compared(
    graph: str, precision: str, pairs: Sequence[tuple[NDArray[np.floating], NDArray[np.floating]]]
) -> Gate:
    steps = len(pairs[0][0])
    if precision == "fp32":
        worst = max(float(np.abs(got - wanted).max()) for got, wanted in pairs)
        saw = f"differs from torch by {worst:.1e} at most over {steps} steps (limit {FLOAT_TOLERANCE:.0e})"
        return Gate(f"{graph} equals torch", saw, worst <= FLOAT_TOLERANCE)
    agreement, decided, told = min((_agreement(got, wanted) for got, wanted in pairs), key=lambda a: a[1])
    saw = f"{decided:.2%} of the {told} steps that are no tie, {agreement:.2%} of all {steps}"
    limits = f" (limits {INTEGER_AGREEMENT:.0%}, {TIED_AGREEMENT:.0%})"
    passed = decided >= INTEGER_AGREEMENT and agreement >= TIED_AGREEMENT
    return Gate(f"{graph} agrees with the int8 network's top choice", saw + limits, passed)


def _agreement(got: NDArray[np.floating], wanted: NDArray[np.floating]) -> tuple[float, float, int]:
    """Share of steps with the same top choice: of all, of those that are no tie, and how many those are.

    A tie: the network's own best two differ by less than 5 % of the deviation of all its outputs. Which of
    them comes first then hangs on how a kernel rounds halves, layer after layer.
    """
    same = got.argmax(axis=1) == wanted.argmax(axis=1)
    best = np.sort(wanted, axis=1)
    clear = best[:, -1] - best[:, -2] > TIE * wanted.std()
    return float(same.mean()), float(same[clear].mean()) if clear.any() else 1.0, int(clear.sum())


_FLOAT_LAYERS = ("Conv", "FusedConv", "Gemm", "MatMul", "FusedGemm")


def verify_fused(bundle: Bundle, fuses_here: bool) -> list[Gate]:
    """No layer of an int8 graph is left to compute in float.

    Where this machine's runtime optimises as the target's does, that is read off its optimised graph.
    Elsewhere every layer must at least have its input and its weights from a DequantizeLinear, which is
    what the target's own compiler fuses.
    """
    gates = []
    for graph in bundle.manifest.graphs:
        if graph.precision == "int8":
            gates.append(_fused_gate(bundle, graph) if fuses_here else _explicit_gate(bundle, graph))
    return gates


def _fused_gate(bundle: Bundle, graph: Graph) -> Gate:
    with tempfile.TemporaryDirectory() as folder:
        optimised = Path(folder) / "optimised.onnx"
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(optimised)
        options.log_severity_level = 3  # it warns that the file fits this machine only, which is the point
        path = str(bundle.path(graph.file))
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        counts = Counter(node.op_type for node in onnx.load(optimised, load_external_data=False).graph.node)
    left = {kind: counts[kind] for kind in _FLOAT_LAYERS if counts[kind]}
    fused = counts["QLinearConv"] + counts["QGemm"]
    saw = f"{fused} layers fused, {sum(left.values())} left in float {left or ''}".strip()
    return Gate(f"{graph.name} is integer after the runtime's optimiser", saw, not left)


def _explicit_gate(bundle: Bundle, graph: Graph) -> Gate:
    model = onnx.load(bundle.path(graph.file), load_external_data=False)
    producers = {output: node.op_type for node in model.graph.node for output in node.output}
    layers = [node for node in model.graph.node if node.op_type in _FLOAT_LAYERS]
    left = [n.name for n in layers if {producers.get(i) for i in n.input[:2]} != {"DequantizeLinear"}]
    saw = f"{len(layers) - len(left)} layers between explicit Q/DQ, {len(left)} in float"
    return Gate(f"{graph.name} is explicitly quantised", saw, not left)


def verify_streaming(
    bundle: Bundle, reference: Reference, cache: ClipCache, clips: Sequence[int]
) -> list[Gate]:
    """The SDK streaming the clips' files, against offline evaluation of the cached steps.

    Every variant: against the same graphs, exactly. fp32: also against torch's own rollout.
    """
    gates = []
    for variant in bundle.manifest.variants:
        with StreamRecognizer(bundle, "cpu", variant=variant.name, price=0.0, top=2**16) as recognizer:
            evaluator = Evaluator(bundle.manifest, variant, recognizer.engine, cache, clips)
            differing, worst, torch_worst, steps = 0, 0.0, 0.0, 0
            for clip in clips:
                streamed = recognizer.recognize(cache.clips[clip].path).recognitions[: cache.steps(clip)]
                costs = np.zeros(len(variant.action_space.options))
                offline = evaluator.roll_out(clip, LearntChoice(variant.action_space, costs))
                steps += len(offline)
                differing += len(offline) - len(streamed)
                pairs = list(zip(streamed, offline, strict=False))
                differing += sum(s.choice != (o.choice or "held") for s, o in pairs)
                scores = [[dict(s.top)[label] for label in bundle.manifest.labels] for s in streamed]
                worst = max(worst, float(np.abs(np.array(scores) - [o.scores for _, o in pairs]).max()))
                if variant.name == "fp32":
                    fused = _torch_scores(reference.model, cache, clip)
                    torch_worst = max(torch_worst, float(np.abs(fused - scores[-1]).max()))
        saw = f"{differing} of {steps} decisions differ, scores by {worst:.1e} at most"
        gates.append(Gate(f"{variant.name}: streaming equals offline", saw, differing == 0 and worst < 1e-6))
        if variant.name == "fp32":
            saw = f"fused scores differ by {torch_worst:.1e} at most over {len(clips)} clips"
            gates.append(Gate("fp32: streaming equals torch's rollout", saw, torch_worst <= FLOAT_TOLERANCE))
    return gates


def _torch_scores(model: AdaptiveModel, cache: ClipCache, clip: int) -> NDArray[np.float64]:
    """Fused scores (C,) after the last step by torch's own rollout."""

    def frames(view: str) -> torch.Tensor:
        return torch.from_numpy(np.array(cache.frames(clip, view)))

    with torch.no_grad():
        features = model.embed(frames(model.policy_view))[None]
        logits = {
            name: model.branch_logits(name, frames(model.branch_view(name).name))[None]
            for name in model.branches
        }
        present = torch.ones(features.shape[:2], dtype=torch.bool)
        no_costs = torch.zeros(len(model.space.options))
        rollout = model.rollout(features, logits, present, argmax_sampler(no_costs))
    return np.asarray(rollout.logits.double().softmax(1)[0].numpy())
