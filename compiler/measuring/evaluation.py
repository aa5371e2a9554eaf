"""Accuracy and cost of every way to run a bundle, on the cached validation clips and its own graphs.

Branch outputs are computed once per step; what a fixed, random or learnt choice answers is then looked up.
The policy's state depends on what was held, so its graph is run anew for every rollout.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compiler.data.batches import availability
from compiler.data.cache import ClipCache
from compiler.measuring.step_costs import Costs, StepCosts
from runtimes.engines.engine import Engine
from runtimes.spec import ANSWER, LOGITS, PRESENT, PRICE, CostTable, Manifest, Option, Policy, Variant
from sdk.decisions.scheduler import (
    Chooser,
    Fusion,
    LearntChoice,
    RandomChoice,
    Scheduler,
    StepFusion,
    option_costs,
)
from sdk.results import NOTHING

FRAME_COUNTS = (1, 2, 4, 8, 16)

Logits = NDArray[np.float32]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """One way to run a variant over the validation clips.

    ``correct`` (clips,), ``ms``, ``mj`` (clips,): time, and energy beyond the idle device's, of resizing,
    policy and branches by the cost table, decoding apart; ``mj`` None where it was not measured.
    ``used`` (clips, groups): the share of a clip's steps at which each group ran, of choices that are made.
    """

    name: str
    variant: str
    kind: str
    correct: NDArray[np.bool_]
    ms: NDArray[np.float64]
    choices: Counter[str] = field(default_factory=Counter)
    used: NDArray[np.float64] | None = None
    mj: NDArray[np.float64] | None = None

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
    """One step of a rollout: the choice (None where held) and the fused scores (C,) after it.

    ``options``: what was chosen, one of each group. ``preferences``: the policy's scores (n,), None if held.
    """

    choice: str | None
    scores: NDArray[np.float64]
    options: tuple[Option, ...] = ()
    preferences: NDArray[np.float64] | None = None


class Evaluator:
    """Runs one variant's graphs over cached clips."""

    def __init__(
        self, manifest: Manifest, variant: Variant, engine: Engine, cache: ClipCache, clips: Sequence[int]
    ) -> None:
        self.manifest, self.variant, self.engine, self.cache = manifest, variant, engine, cache
        self.clips = list(clips)
        self._branch_logits: dict[tuple[str, int], Logits] = {}
        self.step_fusion = StepFusion(manifest.fusion, variant.action_space)
        groups = [
            tuple(dict.fromkeys(option.view for option in group.options if option.view))
            for group in variant.action_space.groups
        ]
        modalities = {manifest.view(view).modality for views in groups for view in views}
        self._may_lack = groups if len(groups) > 1 or modalities - {"rgb"} else []
        self._available: dict[int, NDArray[np.bool_]] = {}
        self._heads = variant.head_outputs

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
        state, output = self._initial_state(), self._heads[option.name]
        rows = [self._run_policy(clip, t, state)[0][output][0] for t in steps]
        return np.asarray(rows, np.float32)

    def roll_out(self, clip: int, chooser: Chooser) -> list[Step]:
        """Decide every step of a clip just as a stream does."""
        scheduler, fusion = Scheduler(chooser), Fusion(self.manifest.fusion.window)
        state, steps = self._initial_state(), []
        scores: NDArray[np.float64] | None = None
        for t in range(self.cache.steps(clip)):
            choice, logits, preferences = None, None, None
            options: tuple[Option, ...] = ()
            if not scheduler.idle():
                absent, price = self.absent_views(clip, t), chooser.price
                outputs, state = self._run_policy(clip, t, state, price, scores)
                preferences = outputs["scores"][0].astype(np.float64)
                options = scheduler.decide(outputs["scores"][0], price, absent)
                choice = "+".join(option.name for option in options) or NOTHING
                answers = [(o, self._answer(o, clip, t, outputs)) for o in options if not o.skip]
                logits = self.step_fusion.fuse(answers)
            scores = fusion.update(logits)
            # Where nothing was there to run from the beginning, nothing is known.
            unknown = np.full(len(self.manifest.labels), 1 / len(self.manifest.labels))
            steps.append(Step(choice, unknown if scores is None else scores, options, preferences))
        return steps

    def _answer(self, option: Option, clip: int, t: int, outputs: dict[str, NDArray[np.generic]]) -> Logits:
        if self.variant.is_head(option):
            return np.asarray(outputs[self._heads[option.name]][0], np.float32)
        return self.branch_logits(option, clip)[t]

    def _initial_state(self) -> dict[str, NDArray[np.generic]]:
        return {name: np.zeros(shape, np.float32) for name, shape in self._policy.state.items()}

    def _run_policy(
        self,
        clip: int,
        t: int,
        state: dict[str, NDArray[np.generic]],
        price: float = 0.0,
        answer: NDArray[np.float64] | None = None,
    ) -> tuple[dict[str, NDArray[np.generic]], dict[str, NDArray[np.generic]]]:
        policy = self._policy
        inputs: dict[str, Any] = {PRICE: np.array([[price]], np.float32)}
        for view, name in policy.inputs.items():
            frames = self.cache.frames(clip, view)
            inputs[name] = frames[t].reshape(self._shape(view, frames))
        declared = self.manifest.graph(policy.graph).inputs
        if ANSWER in declared:
            known = np.zeros(len(self.manifest.labels)) if answer is None else answer
            inputs[ANSWER] = known[None].astype(np.float32)
        if PRESENT in declared:
            absent = self.absent_views(clip, t)
            there = [not set(views) <= absent for views in self._may_lack]
            inputs[PRESENT] = np.array([there], np.float32)
        outputs = self.engine.graph(policy.graph)(**inputs, **state)
        return outputs, {name: outputs[f"next_{name}"] for name in state}


def evenly_spaced(count: int, steps: int) -> list[int]:
    """The middles of ``count`` equal segments of ``steps`` steps; every step where there are no more."""
    count = min(count, steps)
    return [int((i + 0.5) * steps / count) for i in range(count)]


def frame_counts(longest: int) -> tuple[int, ...]:
    """The counts to try on clips of ``longest`` steps at most: the last of them takes every step."""
    fewer = tuple(count for count in FRAME_COUNTS if count < longest)
    return (*fewer, *FRAME_COUNTS[len(fewer) : len(fewer) + 1])


def static_options(outcome: Outcome) -> str:
    """What a static choice runs, as its name says."""
    return outcome.name.rpartition(" x ")[0]


def static_count(outcome: Outcome) -> int:
    """On how many steps a static choice runs, as its name says."""
    return int(outcome.name.rpartition(" x ")[2])


def static_outcomes(evaluator: Evaluator, table: CostTable) -> list[Outcome]:
    """Every fixed choice: each branch, the policy's head, and each set of branches of several groups.

    Each on 1, 2, 4, 8 and 16 evenly spaced steps, as far as there are so many.
    """
    outcomes = []
    longest = max(evaluator.cache.steps(clip) for clip in evaluator.clips)
    for options in branch_sets(evaluator.variant):
        for count in frame_counts(longest):
            name = f"{'+'.join(option.name for option in options)} x {count}"
            outcomes.append(_static(evaluator, name, options, count, table))
    return outcomes


def branch_sets(variant: Variant) -> list[tuple[Option, ...]]:
    """All that may run together at a step: of each group a branch or, beside others, none."""
    groups = [[o for o in group.options if not o.skip] for group in variant.action_space.groups]
    if len(groups) == 1:
        return [(option,) for option in groups[0]]
    combined = itertools.product(*([*options, None] for options in groups))
    sets = [tuple(option for option in options if option is not None) for options in combined]
    return [options for options in sets if options]


def _static(
    evaluator: Evaluator, name: str, options: Sequence[Option], count: int, table: CostTable
) -> Outcome:
    """The mean over ``count`` steps of what the ``options`` say; what a step lacks is not run."""
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
    return Outcome(name, evaluator.variant.name, "static", np.array(correct), ms, mj=mj)


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


def learnt_outcome(evaluator: Evaluator, table: CostTable, price: float, name: str) -> Outcome:
    """The learnt policy at a price."""
    costs = option_costs(evaluator.variant, table)
    chooser = LearntChoice(evaluator.variant.action_space, costs, price)
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
        decided = [step.options for step in steps if step.choice is not None]
        ran = [[o for o in options if o.graph and not variant.is_head(o)] for options in decided]
        correct.append(int(steps[-1].scores.argmax()) == evaluator.cache.target(clip))
        spent.append(sum(of_policy + costs.of_branches(options, rendered) for options in ran))
        used.append(
            [
                sum(any(o in group.options and o.graph for o in step.options) for step in steps) / len(steps)
                for group in variant.action_space.groups
            ]
        )
        choices.update(step.choice or "held" for step in steps)
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
