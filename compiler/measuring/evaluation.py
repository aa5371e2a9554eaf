"""Accuracy and cost of every way to run a bundle, on the cached validation clips and its own graphs.

Branch outputs are computed once per step; what a fixed, random or learned choice answers is then looked up.
The policy's state depends on what was held, so its graph is run anew for every rollout.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from compiler.data.batches import availability
from compiler.data.cache import ClipCache
from compiler.measuring.step_costs import Costs, StepCosts
from runtimes.engines.engine import Array, Engine
from runtimes.spec import LOGITS, CostTable, LookFusion, Manifest, Option, Policy, Variant, policy_inputs
from sdk.decisions.choosers import Chooser, LearnedChoice, RandomChoice
from sdk.decisions.decision import Decision, Observation, Plan
from sdk.decisions.decision_loop import DecisionLoop
from sdk.decisions.fusion import StepFusion, StreamFusion
from sdk.decisions.option_costs import option_costs
from sdk.decisions.points.look_positions import evenly_spaced
from sdk.decisions.policy_feed import PolicyContext, initial_state, policy_feed

FRAME_COUNTS = (1, 2, 4, 8, 16)

Logits = NDArray[np.float32]
Floats = NDArray[np.float64]
Outputs = dict[str, Array]


@dataclass(frozen=True)
class StaticPoint:
    """A fixed choice: which options run, each on ``count`` evenly spaced steps of a clip."""

    options: tuple[Option, ...]
    count: int

    @property
    def running(self) -> str:
        """What runs, by name."""
        return "+".join(option.name for option in self.options)

    @property
    def name(self) -> str:
        """What runs, and on how many steps."""
        return f"{self.running} x {self.count}"


@dataclass(frozen=True)
class Outcome:
    """One way to run a variant over the validation clips.

    ``correct`` (clips,), ``ms``, ``mj`` (clips,): time, and energy beyond the idle device's, of resizing,
    policy and branches by the cost table, decoding apart; ``mj`` None where it was not measured.
    ``used`` (clips, groups): the share of a clip's steps at which each group ran, of choices that are made.
    ``point``: what a fixed choice runs.
    """

    name: str
    variant: str
    kind: str
    correct: NDArray[np.bool_]
    ms: NDArray[np.float64]
    choices: Counter[str] = field(default_factory=Counter)
    used: NDArray[np.float64] | None = None
    mj: NDArray[np.float64] | None = None
    point: StaticPoint | None = None

    @property
    def accuracy(self) -> float:
        """Share of clips whose top label is right."""
        return float(self.correct.mean())

    @property
    def mean_ms(self) -> float:
        """Mean ms a clip."""
        return float(self.ms.mean())

    @property
    def mean_mj(self) -> float | None:
        """Mean mJ a clip; None where it was not measured."""
        return None if self.mj is None else float(self.mj.mean())


@dataclass(frozen=True)
class Step:
    """One step of a rollout: its decision, and the fused scores (C,) after it.

    ``preferences``: the policy's scores (n,), None if it did not run.
    """

    decision: Decision
    scores: Floats
    preferences: Floats | None = None


class Evaluator:
    """Runs one variant's graphs over cached clips."""

    def __init__(
        self,
        manifest: Manifest,
        variant: Variant,
        engine: Engine,
        cache: ClipCache,
        clips: Sequence[int],
        looks: LookFusion | None = None,
    ) -> None:
        """``looks``: how the looks of operating points are fused."""
        self.manifest, self.variant, self.engine, self.cache = manifest, variant, engine, cache
        self.clips = list(clips)
        self._branch_logits: dict[tuple[str, int], Logits] = {}
        self._head_logits: dict[tuple[str, int, int], Logits] = {}
        self.step_fusion = StepFusion(manifest.fusion, variant.action_space)
        self._looks = looks
        groups = [
            tuple(dict.fromkeys(option.view for option in group.options if option.view))
            for group in variant.action_space.groups
        ]
        modalities = {manifest.view(view).modality for views in groups for view in views}
        self._may_lack = groups if len(groups) > 1 or modalities - {"rgb"} else []
        self._available: dict[int, NDArray[np.bool_]] = {}
        self._heads = variant.head_outputs
        policy = variant.policy
        self._inputs = policy_inputs(policy, manifest.graph(policy.graph).inputs) if policy else ()

    @property
    def _policy(self) -> Policy:
        assert self.variant.policy is not None, "a rollout is a policy's"
        return self.variant.policy

    def branch_logits(self, option: Option, clip: int) -> Logits:
        """Logits (T, C) of a branch option at every step of a clip."""
        assert option.graph is not None and option.view is not None, "a branch has both"
        key = option.graph, clip
        if key not in self._branch_logits:
            run, frames = self.engine.graph(option.graph), self.cache.frames(clip, option.view)
            shape = self._shape(option.view, frames)
            rows = [run(frame=frame.reshape(shape))[LOGITS][0] for frame in frames]
            self._branch_logits[key] = np.asarray(rows, np.float32)
        return self._branch_logits[key]

    def _shape(self, view: str, frames: NDArray[np.uint8]) -> tuple[int, ...]:
        """What a graph takes of one of a clip's ``frames`` at a view."""
        single = self.manifest.view(view).frames == 1 and frames.ndim == 4
        return (1, *frames.shape[1:]) if single else frames.shape[1:]

    def absent_views(self, clip: int, t: int) -> frozenset[str]:
        """The views of groups that a step of a clip lacks."""
        if not self._may_lack:
            return frozenset()
        if clip not in self._available:
            self._available[clip] = availability(self.cache, clip, self._may_lack).numpy()
        there = self._available[clip][t]
        return frozenset(
            view
            for views, is_there in zip(self._may_lack, there, strict=True)
            if not is_there
            for view in views
        )

    def head_logits(self, option: Option, clip: int, steps: Sequence[int]) -> Logits:
        """Logits (len(steps), C) of one of the policy's own heads, run on just these steps of a clip."""
        state, output = initial_state(self._inputs), self._heads[option.name]
        rows = [self._run_policy(clip, t, state)[0][output][0] for t in steps]
        return np.asarray(rows, np.float32)

    def fused_at(self, options: Sequence[Option], clip: int, step: int) -> Floats:
        """Logits (C,) of these together at one step of a clip; a head of the policy as at its first look."""
        answers = [(option, self._look(option, clip, step)) for option in options]
        fused = self.step_fusion.fuse(answers)
        assert fused is not None, "some option answers"
        return np.asarray(fused, np.float64)

    def _look(self, option: Option, clip: int, step: int) -> Logits:
        if not self.variant.is_head(option):
            return self.branch_logits(option, clip)[step]
        key = option.name, clip, step
        if key not in self._head_logits:
            self._head_logits[key] = self.head_logits(option, clip, [step])[0]
        return self._head_logits[key]

    def roll_out(self, clip: int, chooser: Chooser) -> list[Step]:
        """Decide every step of a clip just as a stream does that knows how long it is."""
        loop = DecisionLoop(chooser)
        fusion = StreamFusion(self.manifest.fusion, self.variant.action_space, self._looks)
        loop.expect_steps(self.cache.steps(clip))
        state, steps = initial_state(self._inputs), []
        outputs: Outputs = {}
        scores: Floats | None = None
        # What stands where nothing was there to run from the beginning.
        unknown = np.full(len(self.manifest.labels), 1 / len(self.manifest.labels))
        for t in range(self.cache.steps(clip)):

            def observe(plan: Plan, t: int = t, answer: Floats | None = scores) -> Observation:
                nonlocal outputs, state
                if not chooser.runs_policy:
                    return Observation(None, self.absent_views(clip, t))
                outputs, state = self._run_policy(clip, t, state, plan.price, answer)
                return Observation(outputs["scores"][0], self.absent_views(clip, t))

            decision = loop.step(observe, answer=scores)
            answers = [(o, self._answer(o, clip, t, outputs)) for o in decision.options if not o.skip]
            scores = fusion.update(answers, as_looks=chooser.fuses_looks)
            known = unknown if scores is None else scores
            preferences = outputs["scores"][0].astype(np.float64) if outputs and not decision.held else None
            steps.append(Step(decision, known, preferences))
        return steps

    def _answer(self, option: Option, clip: int, t: int, outputs: dict[str, NDArray[np.generic]]) -> Logits:
        if self.variant.is_head(option):
            return np.asarray(outputs[self._heads[option.name]][0], np.float32)
        return self.branch_logits(option, clip)[t]

    def _run_policy(
        self, clip: int, t: int, state: Outputs, price: float = 0.0, answer: Floats | None = None
    ) -> tuple[Outputs, Outputs]:
        """The policy's outputs at a step, and its state after it."""

        def view(name: str) -> Array:
            frames = self.cache.frames(clip, name)
            return frames[t].reshape(self._shape(name, frames))

        absent = self.absent_views(clip, t)
        present = [not set(views) <= absent for views in self._may_lack]
        context = PolicyContext(price, view, present, answer, state)
        outputs = self.engine.graph(self._policy.graph)(**policy_feed(self._inputs, context))
        return outputs, {name: outputs[f"next_{name}"] for name in state}


def frame_counts(longest: int) -> tuple[int, ...]:
    """The counts to try on clips of ``longest`` steps at most: the last of them takes every step."""
    fewer = tuple(count for count in FRAME_COUNTS if count < longest)
    return (*fewer, *FRAME_COUNTS[len(fewer) : len(fewer) + 1])


def static_outcomes(evaluator: Evaluator, table: CostTable) -> list[Outcome]:
    """Every fixed choice: each branch, the policy's head, and each set of branches of several groups.

    Each on 1, 2, 4, 8 and 16 evenly spaced steps, as far as there are so many.
    """
    outcomes = []
    longest = max(evaluator.cache.steps(clip) for clip in evaluator.clips)
    for options in branch_sets(evaluator.variant):
        for count in frame_counts(longest):
            outcomes.append(_static(evaluator, StaticPoint(options, count), table))
    return outcomes


def branch_sets(variant: Variant) -> list[tuple[Option, ...]]:
    """All that may run together at a step: of each group a branch or, beside others, none."""
    groups = [[o for o in group.options if not o.skip] for group in variant.action_space.groups]
    if len(groups) == 1:
        return [(option,) for option in groups[0]]
    combined = itertools.product(*([*options, None] for options in groups))
    sets = [tuple(option for option in options if option is not None) for options in combined]
    return [options for options in sets if options]


def _static(evaluator: Evaluator, point: StaticPoint, table: CostTable) -> Outcome:
    """The mean over the point's steps of what its options say; what a step lacks is not run."""
    options, count = point.options, point.count
    correct, spent, costs = [], [], StepCosts(table)
    for clip in evaluator.clips:
        steps = evenly_spaced(count, evaluator.cache.steps(clip))
        running = [[o for o in options if o.view not in evaluator.absent_views(clip, t)] for t in steps]
        said = {
            option.name: dict(zip(steps, _logits_at(evaluator, option, clip, steps), strict=True))
            for option in options
        }
        fused = [
            evaluator.step_fusion.fuse([(o, said[o.name][t]) for o in there])
            for t, there in zip(steps, running, strict=True)
        ]
        logits = [answer for answer in fused if answer is not None]
        right = bool(logits) and int(np.mean(logits, axis=0).argmax()) == evaluator.cache.target(clip)
        correct.append(right)
        spent.append(sum(_together(evaluator.variant, there, costs) for there in running))
    ms, mj = _ms_and_mj(spent)
    return Outcome(point.name, evaluator.variant.name, "static", np.array(correct), ms, mj=mj, point=point)


def _together(variant: Variant, options: Sequence[Option], costs: StepCosts) -> Costs:
    """A step that runs these, without a choice: the policy only where its own heads are among them."""
    branches = [option for option in options if not variant.is_head(option)]
    if variant.policy is None or len(branches) == len(options):
        return costs.of_branches(branches)
    return costs.of_policy(variant.policy) + costs.of_branches(branches, variant.policy.views)


def _ms_and_mj(spent: Sequence[Costs | int]) -> tuple[Floats, Floats | None]:
    """(clips,) each, of what every clip takes; no mJ if that of any part was not measured."""
    ms, mj = np.array([np.zeros(2) + cost for cost in spent]).T
    return ms, None if np.isnan(mj).any() else mj


def _logits_at(evaluator: Evaluator, option: Option, clip: int, steps: Sequence[int]) -> Logits:
    """Logits (len(steps), C) of a branch, or of the policy's own head, at some steps of a clip."""
    if evaluator.variant.is_head(option):
        return evaluator.head_logits(option, clip, steps)
    return evaluator.branch_logits(option, clip)[list(steps)]


def learned_outcome(evaluator: Evaluator, table: CostTable, price: float, name: str) -> Outcome:
    """The learned policy at a price."""
    costs = option_costs(evaluator.variant, table)
    chooser = LearnedChoice(evaluator.variant.action_space, costs, price)
    return _rolled_out(evaluator, table, chooser, name, "adaptive")


def random_outcome(evaluator: Evaluator, table: CostTable, seed: int) -> Outcome:
    """Options drawn at random; the policy is run and paid for all the same."""
    chooser = RandomChoice(evaluator.variant.action_space, seed)
    return _rolled_out(evaluator, table, chooser, f"random {seed}", "random")


def _rolled_out(evaluator: Evaluator, table: CostTable, chooser: Chooser, name: str, kind: str) -> Outcome:
    variant = evaluator.variant
    assert variant.policy is not None, "a rollout is a policy's"
    costs, rendered = StepCosts(table), variant.policy.views
    of_policy = costs.of_policy(variant.policy)
    correct, spent, used, choices = [], [], [], Counter[str]()
    for clip in evaluator.clips:
        chooser.reset()
        steps = evaluator.roll_out(clip, chooser)
        decided = [step.decision.options for step in steps if not step.decision.held]
        ran = [[o for o in options if o.graph and not variant.is_head(o)] for options in decided]
        correct.append(int(steps[-1].scores.argmax()) == evaluator.cache.target(clip))
        spent.append(sum(of_policy + costs.of_branches(options, rendered) for options in ran))
        used.append(
            [
                sum(any(o in group.options and o.graph for o in step.decision.options) for step in steps)
                / len(steps)
                for group in variant.action_space.groups
            ]
        )
        choices.update(step.decision.name for step in steps)
    ms, mj = _ms_and_mj(spent)
    return Outcome(name, variant.name, kind, np.array(correct), ms, choices, np.array(used), mj)


def static_front(
    outcomes: Sequence[Outcome], cost: Callable[[Outcome], float] = lambda outcome: outcome.mean_ms
) -> list[Outcome]:
    """The static choices that no cheaper one equals, by rising ``cost``: their upper envelope."""
    front: list[Outcome] = []
    for outcome in sorted(outcomes, key=lambda o: (cost(o), -o.accuracy)):
        if not front or outcome.accuracy > front[-1].accuracy:
            front.append(outcome)
    return front


def best_static_within(front: Sequence[Outcome], ms: float) -> Outcome | None:
    """The most accurate static choice that costs no more than ``ms`` a clip; None if all cost more."""
    within = [outcome for outcome in front if outcome.mean_ms <= ms]
    return within[-1] if within else None
