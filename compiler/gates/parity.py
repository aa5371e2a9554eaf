"""The gates of the bundle's own target: graphs against torch, streams against offline evaluation."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from compiler.bundle_plan import BundlePlan, Network, VariantPlan
from compiler.data.batches import availability
from compiler.data.cache import ClipCache
from compiler.export.policy_graph import condition_names
from compiler.gate import Gate
from compiler.measuring.evaluation import Evaluator
from models.policies.conditioning import PRICE_TOP
from models.policies.policy import StepPolicy
from models.rollout.adaptive_model import AdaptiveModel
from models.rollout.branch_model import POLICY, pixels
from models.rollout.sampling import Sampler, argmax_sampler
from runtimes.bundle import Bundle
from runtimes.device import device_name
from runtimes.engines.engine import Array, Engine, GraphRunner
from runtimes.engines.onnx import CPU
from runtimes.spec import ANSWER, PRESENT, PRICE, Option, Variant
from sdk.decisions.choosers import LearnedChoice
from sdk.decisions.option_costs import option_costs, relative_costs
from sdk.recognizer import StreamRecognizer
from sdk.results import Recognition

FLOAT_TOLERANCE = 1e-4
INTEGER_AGREEMENT = 0.99
TIED_AGREEMENT = 0.95
TIE = 0.05


def verify_graphs(
    bundle: Bundle,
    engine: Engine,
    contents: BundlePlan,
    cache: ClipCache,
    clips: Sequence[int],
    more: Sequence[int] = (),
    target: str | None = None,
) -> list[Gate]:
    """Each graph of a target against its torch network on every step of some validation clips.

    By default of the bundle's own. Float: largest difference of any output, relative to outputs above 1.
    Integers: how often the top label (and the policy's top option) is the same as the quantization-aware
    network's. A graph that fails is judged once more, on ``more`` clips (a share near its limit is not told
    from one below it on a few hundred steps). A step on which it differs from the network then does not count
    if the network in double precision differs from itself there: how halves are rounded decides it, and no
    kernel can be asked to agree with either.
    """
    there = {graph.name for graph in bundle.manifest.graphs_of(target)}
    networks = {n.graph: n for plan in contents.variants for n in plan.networks if n.graph in there}
    gates = []
    for network in networks.values():
        compare = _compare_policy if network.part == POLICY else _compare_branch
        run = engine.graph(network.graph)
        gate = _gate(network, compare(run, network, cache, clips))
        if network.precision != "fp32" and not gate.passed:
            gate = _gate(network, compare(run, network, cache, more or clips, in_double=True))
        gates.append(gate)
    return gates


class _Compared(NamedTuple):
    """One output over some steps, (steps, n) each: the graph's, the torch network's, and its in double.

    In double only on steps where the graph's top choice is another, as that is slow; elsewhere as in single.
    """

    got: NDArray[np.floating]
    wanted: NDArray[np.floating]
    in_double: NDArray[np.floating] | None


def _compare_branch(
    run: GraphRunner, network: Network, cache: ClipCache, clips: Sequence[int], in_double: bool = False
) -> list[_Compared]:
    view = network.view
    double = copy.deepcopy(network.module).double() if in_double else None
    got, wanted, exact = [], [], []
    for clip in clips:
        frames = np.array(cache.frames(clip, view.name))
        got += [run(frame=frame.reshape(view.shape))["logits"][0] for frame in frames]
        images = pixels(torch.from_numpy(frames), view)
        with torch.no_grad():
            said = network.module(images).numpy()
            wanted += list(said)
            if double:
                apart = np.array(got[-len(said) :]).argmax(1) != said.argmax(1)
                precise = said.astype(np.float64)
                if apart.any():
                    precise[apart] = double(images[torch.from_numpy(apart)].double()).numpy()
                exact += list(precise)
    return [_Compared(np.asarray(got), np.asarray(wanted), np.asarray(exact) if double else None)]


def _compare_policy(
    run: GraphRunner, network: Network, cache: ClipCache, clips: Sequence[int], in_double: bool = False
) -> list[_Compared]:
    """All are given the state of the torch network, so that one early difference counts once.

    At every step a policy is given another price, another set of its groups, whatever there is, and
    another answer so far, if it recalls that.
    """
    policy, views = network.module, network.views
    assert isinstance(policy, StepPolicy)
    double = copy.deepcopy(policy).double() if in_double else None
    names = ("scores", *network.heads.values())
    steps: list[tuple[Mapping[str, Array], _Said, _Said]] = []
    for clip in clips:
        state = policy.initial_state(1)
        for t, frames in enumerate(zip(*(cache.frames(clip, view.name) for view in views), strict=True)):
            conditions = {name: _conditions_in_turn(policy, name, t) for name in condition_names(policy)}
            pictures = _policy_views(network, frames)
            outputs = run(
                **pictures, **conditions, **{k: part.numpy() for k, part in state._asdict().items()}
            )
            images = [
                pixels(torch.from_numpy(np.array(frame)[None]), view)
                for frame, view in zip(frames, views, strict=True)
            ]
            with torch.no_grad():
                said = _say(policy, images, conditions, state)
                apart = any(
                    outputs[name].argmax() != int(part.argmax())
                    for name, part in zip(names, said.outputs, strict=True)
                )
                exact = _say(double, images, conditions, state) if double and apart else said
            steps.append((outputs, said, exact))
            state = said.state
    return [
        _Compared(
            np.array([outputs[name][0] for outputs, _, _ in steps]),
            np.array([said.outputs[place][0] for _, said, _ in steps]),
            np.array([exact.outputs[place][0] for _, _, exact in steps]) if in_double else None,
        )
        for place, name in enumerate(names)
    ]


class _Said(NamedTuple):
    """What a policy says at a step: its scores and its heads' logits, and its next state."""

    outputs: tuple[torch.Tensor, ...]
    state: Any


def _conditions_in_turn(policy: StepPolicy, name: str, step: int) -> NDArray[np.float32]:
    """A policy's conditioning inputs at a step, by name: something else at every step.

    present (1, groups): all at the first step, then every other set in turn; price (1, 1): rising, and
    again from 0; answer (1, C): none at first, then surer and surer of class after class.
    """
    if name == PRESENT:
        sets = 2**policy.num_groups - 1
        number = sets - step % sets
        return np.array([[number >> group & 1 for group in range(policy.num_groups)]], np.float32)
    if name == PRICE:
        return np.array([[PRICE_TOP * (step % 9 / 8) ** 2]], np.float32)
    classes, sureness = policy.recalls, step % 7 / 7
    answer = np.full((1, classes), (1 - sureness) / classes)
    answer[0, step % classes] += sureness
    return (answer if step else np.zeros((1, classes))).astype(np.float32)


def _policy_views(network: Network, frames: Sequence[NDArray[np.uint8]]) -> dict[str, NDArray[np.uint8]]:
    """A policy's views at one step by the inputs of its graph."""
    views = network.views
    names = ["frame"] if len(views) == 1 else [view.name for view in views]
    return {n: np.array(f).reshape(v.shape) for n, v, f in zip(names, views, frames, strict=True)}


def _say(
    policy: StepPolicy,
    images: Sequence[torch.Tensor],
    conditions: Mapping[str, NDArray[np.float32]],
    state: Any,
) -> _Said:
    """One step of a policy in the precision of its own weights."""
    kind = next(policy.parameters()).dtype
    given = {name: torch.from_numpy(value).to(kind) for name, value in conditions.items()}
    features = policy.embed(*(image.to(kind) for image in images))
    joined = policy.join(features, given.get(PRESENT))
    before = type(state)(*(part.to(kind) for part in state))
    output = policy.advance(joined, policy.encode_conditions(given[PRICE], given.get(ANSWER)), before)
    return _Said((output.scores, *policy.head_logits(features)), output.state)


def _gate(network: Network, outputs: Sequence[_Compared]) -> Gate:
    graph, steps = network.graph, len(outputs[0].got)
    if network.precision == "fp32":
        worst = max(_relative(output.got, output.wanted) for output in outputs)
        saw = f"differs from torch by {worst:.1e} at most over {steps} steps (limit {FLOAT_TOLERANCE:.0e})"
        return Gate(f"{graph} equals torch", saw, worst <= FLOAT_TOLERANCE)
    agreement, decided, distinct = min((_agreement(output) for output in outputs), key=lambda a: a[1])
    tie = "that are no tie" if outputs[0].in_double is None else "that neither a tie nor a rounding decides"
    saw = f"{decided:.2%} of the {distinct} steps {tie}, {agreement:.2%} of all {steps}"
    limits = f" (limits {INTEGER_AGREEMENT:.0%}, {TIED_AGREEMENT:.0%})"
    passed = decided >= INTEGER_AGREEMENT and agreement >= TIED_AGREEMENT
    return Gate(f"{graph} agrees with the {network.precision} network's top choice", saw + limits, passed)


def _relative(got: NDArray[np.floating], wanted: NDArray[np.floating]) -> float:
    """Largest difference, in units of the largest output if that is above 1: floats round by size."""
    return float(np.abs(got - wanted).max() / max(1.0, np.abs(wanted).max()))


def _agreement(output: _Compared) -> tuple[float, float, int]:
    """Share of steps with the same top choice: of all, of those that are decided, and how many those are.

    Not decided is a tie: the network's own best two differ by less than 5 % of the deviation of all its
    outputs. Which of them comes first then hangs on how a kernel rounds halves, layer after layer. Nor is a
    step whose top choice the network itself changes in double precision.
    """
    top = output.wanted.argmax(axis=1)
    same = output.got.argmax(axis=1) == top
    best = np.sort(output.wanted, axis=1)
    decided = best[:, -1] - best[:, -2] > TIE * output.wanted.std()
    if output.in_double is not None:
        decided &= output.in_double.argmax(axis=1) == top
    return float(same.mean()), float(same[decided].mean()) if decided.any() else 1.0, int(decided.sum())


def verify_streaming(
    bundle: Bundle, contents: BundlePlan, cache: ClipCache, clips: Sequence[int]
) -> list[Gate]:
    """The SDK streaming the clips' files at the variants' prices, against offline evaluation of cached steps.

    Every variant: against the same graphs, exactly. All in fp32: also against torch's own rollout.
    """
    gates = []
    for plan in contents.variants:
        variant = bundle.variant(plan.name)
        if variant.policy is None:
            gates += [
                _fixed_gate(bundle, variant, option, cache, clips) for option in variant.action_space.options
            ]
            continue
        gates.append(_streaming_gate(bundle, variant, cache, clips))
        if all(network.precision == "fp32" for network in plan.networks):
            gates.append(_torch_gate(bundle, plan, cache, clips))
    return gates


def _streaming_gate(bundle: Bundle, variant: Variant, cache: ClipCache, clips: Sequence[int]) -> Gate:
    differing, worst, steps = 0, 0.0, 0
    with StreamRecognizer(bundle, "cpu", variant=variant.name, top=2**16) as recognizer:
        evaluator = Evaluator(bundle.manifest, variant, recognizer.engine, cache, clips)
        chooser = LearnedChoice(variant.action_space, _costs(bundle, variant), variant.price)
        for clip in clips:
            streamed = recognizer.recognize(cache.clips[clip].path).recognitions[: cache.steps(clip)]
            offline = evaluator.roll_out(clip, chooser)
            steps += len(offline)
            differing += len(offline) - len(streamed)
            pairs = list(zip(streamed, offline, strict=False))
            differing += sum(s.choice != o.decision.name for s, o in pairs)
            worst = max([worst, *(_apart(bundle, s, o.scores) for s, o in pairs)])
    saw = f"{differing} of {steps} decisions differ, scores by {worst:.1e} at most"
    return Gate(f"{variant.name}: streaming equals offline", saw, differing == 0 and worst < 1e-6)


def _fixed_gate(
    bundle: Bundle, variant: Variant, option: Option, cache: ClipCache, clips: Sequence[int]
) -> Gate:
    """One option at every step; the last scores are those of the mean of the logits."""
    worst = 0.0
    with StreamRecognizer(bundle, "cpu", variant=variant.name, fixed=option.name, top=2**16) as recognizer:
        evaluator = Evaluator(bundle.manifest, variant, recognizer.engine, cache, clips)
        for clip in clips:
            streamed = recognizer.recognize(cache.clips[clip].path).recognitions[: cache.steps(clip)][-1]
            logits = torch.from_numpy(evaluator.branch_logits(option, clip).astype(np.float64))
            worst = max(worst, _apart(bundle, streamed, logits.mean(0).softmax(0).numpy()))
    saw = f"scores differ by {worst:.1e} at most over {len(clips)} clips"
    return Gate(f"{option.name}: streaming equals offline", saw, worst < 1e-6)


def _torch_gate(bundle: Bundle, plan: VariantPlan, cache: ClipCache, clips: Sequence[int]) -> Gate:
    assert isinstance(plan.model, AdaptiveModel)
    worst, variant = 0.0, bundle.variant(plan.name)
    decide = argmax_sampler(torch.from_numpy(relative_costs(_costs(bundle, variant))).float())
    with StreamRecognizer(bundle, "cpu", variant=plan.name, top=2**16) as recognizer:
        for clip in clips:
            streamed = recognizer.recognize(cache.clips[clip].path).recognitions[: cache.steps(clip)][-1]
            scores = _torch_scores(plan.model, cache, clip, decide, variant.price)
            worst = max(worst, _apart(bundle, streamed, scores))
    saw = f"fused scores differ by {worst:.1e} at most over {len(clips)} clips"
    return Gate(f"{plan.name}: streaming equals torch's rollout", saw, worst <= FLOAT_TOLERANCE)


def _costs(bundle: Bundle, variant: Variant) -> NDArray[np.float64]:
    """Cost of each option as a recognizer has it: zeros without a cost table."""
    table = bundle.costs(device_name(), CPU)
    return np.zeros(len(variant.action_space.options)) if table is None else option_costs(variant, table)


def _apart(bundle: Bundle, streamed: Recognition, scores: NDArray[np.float64]) -> float:
    """Largest difference of the scores of one step."""
    top = dict(streamed.top)
    return float(np.abs(np.array([top[label] for label in bundle.manifest.labels]) - scores).max())


def _torch_scores(
    model: AdaptiveModel, cache: ClipCache, clip: int, decide: Sampler, price: float
) -> NDArray[np.float64]:
    """Fused scores (C,) after the last step by torch's own rollout."""

    def frames(view: str) -> torch.Tensor:
        return torch.from_numpy(np.array(cache.frames(clip, view)))

    with torch.no_grad():
        features = model.embed({view: frames(view) for view in model.policy_views})[None]
        logits = {
            name: model.branch_logits(name, frames(model.view_of(name).name))[None] for name in model.branches
        }
        present = torch.ones(features.shape[:2], dtype=torch.bool)
        available = availability(cache, clip, model.may_lack)[None] if model.may_lack else None
        rollout = model.rollout(features, logits, present, decide, available, price)
    return np.asarray(rollout.logits.double().softmax(1)[0].numpy())
