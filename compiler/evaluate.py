"""Accuracy and cost of every way to run a bundle, on the cached validation clips and its own graphs.

Branch outputs are computed once per step; what a fixed, random or learnt choice answers is then looked up.
The policy's state depends on what was held, so its graph is run anew for every rollout.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from compiler.data.cache import ClipCache
from runtimes.engine import Engine
from runtimes.spec import CostTable, Manifest, Option, Policy, Variant
from sdk.scheduler import Chooser, Fusion, LearntChoice, RandomChoice, Scheduler, option_costs

FRAME_COUNTS = (1, 2, 4, 8, 16)

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Outcome:
    """One way to run a variant over the validation clips.

    ``correct`` (clips,), ``ms`` (clips,): resizing, policy and branches by the cost table, decoding apart.
    """

    name: str
    variant: str
    kind: str
    correct: NDArray[np.bool_]
    ms: NDArray[np.float64]
    choices: Counter[str] = field(default_factory=Counter)

    @property
    def accuracy(self) -> float:
        """Share of clips whose top label is right."""
        return float(self.correct.mean())

    @property
    def mean_ms(self) -> float:
        """Mean ms a clip."""
        return float(self.ms.mean())


@dataclass(frozen=True)
class Step:
    """One step of a rollout: the chosen option (None where held) and the fused scores (C,) after it."""

    choice: str | None
    scores: NDArray[np.float64]


class Evaluator:
    """Runs one variant's graphs over cached clips."""

    def __init__(
        self, manifest: Manifest, variant: Variant, engine: Engine, cache: ClipCache, clips: Sequence[int]
    ) -> None:
        self.manifest, self.variant, self.engine, self.cache = manifest, variant, engine, cache
        self.clips = list(clips)
        self._branch_logits: dict[tuple[str, int], Logits] = {}

    @property
    def _policy(self) -> Policy:
        assert self.variant.policy is not None, "a rollout is a policy's"
        return self.variant.policy

    def costs(self, table: CostTable) -> list[float]:
        """Cost of each option in ms."""
        return [float(cost) for cost in option_costs(self.variant, table)]

    def branch_logits(self, option: Option, clip: int) -> Logits:
        """Logits (T, C) of a branch option at every step of a clip."""
        assert option.graph is not None and option.view is not None, "a branch has both"
        key = option.graph, clip
        if key not in self._branch_logits:
            run, frames = self.engine.graph(option.graph), self.cache.frames(clip, option.view)
            rows = [run(frame=frames[t : t + 1])["logits"][0] for t in range(len(frames))]
            self._branch_logits[key] = np.asarray(rows, np.float32)
        return self._branch_logits[key]

    def head_logits(self, clip: int, steps: Sequence[int]) -> Logits:
        """Logits (len(steps), C) of the policy's own head, run on just these steps of a clip."""
        state = self._initial_state()
        rows = [self._run_policy(clip, t, state)[0]["logits"][0] for t in steps]
        return np.asarray(rows, np.float32)

    def roll_out(self, clip: int, chooser: Chooser) -> list[Step]:
        """Decide every step of a clip just as a stream does."""
        scheduler, fusion = Scheduler(chooser), Fusion(self.manifest.fusion.window)
        state, steps = self._initial_state(), []
        for t in range(self.cache.steps(clip)):
            choice, logits = None, None
            if not scheduler.idle():
                outputs, state = self._run_policy(clip, t, state)
                (option,) = scheduler.decide(outputs["scores"][0])
                choice = option.name
                logits = self._answer(option, clip, t, outputs)
            scores = fusion.update(logits)
            assert scores is not None, "the first step always answers"
            steps.append(Step(choice, scores))
        return steps

    def _answer(
        self, option: Option, clip: int, t: int, outputs: dict[str, NDArray[np.generic]]
    ) -> Logits | None:
        if option.skip:
            return None
        if self.variant.is_head(option):
            return np.asarray(outputs["logits"][0], np.float32)
        return self.branch_logits(option, clip)[t]

    def _initial_state(self) -> dict[str, NDArray[np.generic]]:
        return {name: np.zeros(shape, np.float32) for name, shape in self._policy.state.items()}

    def _run_policy(
        self, clip: int, t: int, state: dict[str, NDArray[np.generic]]
    ) -> tuple[dict[str, NDArray[np.generic]], dict[str, NDArray[np.generic]]]:
        policy = self._policy
        frame = self.cache.frames(clip, policy.view)[t : t + 1]
        outputs = self.engine.graph(policy.graph)(frame=frame, **state)
        return outputs, {name: outputs[f"next_{name}"] for name in state}


def evenly_spaced(count: int, steps: int) -> list[int]:
    """The middles of ``count`` equal segments of ``steps`` steps; every step where there are no more."""
    count = min(count, steps)
    return [int((i + 0.5) * steps / count) for i in range(count)]


def static_outcomes(evaluator: Evaluator, table: CostTable) -> list[Outcome]:
    """Every fixed choice: each branch, and the policy's head, on 1, 2, 4, 8 and 16 evenly spaced frames."""
    outcomes = []
    for option in (o for o in evaluator.variant.action_space.options if not o.skip):
        assert option.graph is not None and option.view is not None, "a branch has both"
        head = evaluator.variant.is_head(option)
        frame_ms = table.graph_ms(option.graph, option.view)
        for count in FRAME_COUNTS:

            def answer(clip: int, count: int = count, option: Option = option, head: bool = head) -> Logits:
                steps = evenly_spaced(count, evaluator.cache.steps(clip))
                if head:
                    return evaluator.head_logits(clip, steps)
                return evaluator.branch_logits(option, clip)[steps]

            outcomes.append(_static(evaluator, f"{option.name} x {count}", answer, frame_ms))
    return outcomes


def _static(evaluator: Evaluator, name: str, answer: Callable[[int], Logits], frame_ms: float) -> Outcome:
    correct, ms = [], []
    for clip in evaluator.clips:
        logits = answer(clip)
        correct.append(int(logits.mean(axis=0).argmax()) == evaluator.cache.target(clip))
        ms.append(len(logits) * frame_ms)
    return Outcome(name, evaluator.variant.name, "static", np.array(correct), np.array(ms))


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
    names = [option.name for option in variant.action_space.options]
    costs = dict(zip(names, option_costs(variant, table), strict=True))
    assert variant.policy is not None, "a rollout is a policy's"
    policy_ms = table.graph_ms(variant.policy.graph, variant.policy.view)
    correct, ms, choices = [], [], Counter[str]()
    for clip in evaluator.clips:
        chooser.reset()
        steps = evaluator.roll_out(clip, chooser)
        decided = [step.choice for step in steps if step.choice is not None]
        correct.append(int(steps[-1].scores.argmax()) == evaluator.cache.target(clip))
        ms.append(sum(policy_ms + float(costs[choice]) for choice in decided))
        choices.update(step.choice or "held" for step in steps)
    return Outcome(name, variant.name, kind, np.array(correct), np.array(ms), choices)


def static_front(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """The static choices that no cheaper one equals, by rising cost: their upper envelope."""
    front: list[Outcome] = []
    for outcome in sorted(outcomes, key=lambda o: (o.mean_ms, -o.accuracy)):
        if not front or outcome.accuracy > front[-1].accuracy:
            front.append(outcome)
    return front


def best_static_within(front: Sequence[Outcome], ms: float) -> Outcome | None:
    """The most accurate static choice that costs no more than ``ms`` a clip; None if all cost more."""
    within = [outcome for outcome in front if outcome.mean_ms <= ms]
    return within[-1] if within else None
