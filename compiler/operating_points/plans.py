"""Plans: the looks at a clip in order of time, and what the answer is after each of them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from compiler.operating_points.answers import Answers, Floats
from runtimes.spec import LookFusion
from sdk.decisions.points.look_positions import evenly_spaced

COUNTS = (1, 2, 3, 4, 6, 8, 12, 16)
"""How many looks a schedule takes at a clip."""


@dataclass(frozen=True)
class LookPlan:
    """Looks by name, in order of time."""

    looks: tuple[str, ...]

    @property
    def name(self) -> str:
        """Such as ``rgb224 x 4``, or ``rgb112 x 2, rgb224 x 1``."""
        return ", ".join(f"{look} x {len(list(same))}" for look, same in groupby(self.looks))


@dataclass(frozen=True)
class Course:
    """What a plan comes to after each look.

    ``scores`` (clips, looks, classes); ``runs`` (clips, looks, parts) of the looks so far. A clip with fewer
    steps than the plan has looks stays as it is after its last.
    """

    scores: Floats
    runs: Floats


def follow(answers: Answers, fusion: LookFusion, plan: LookPlan) -> Course:
    """Take the looks of a plan at evenly spaced steps of every clip."""
    clips, classes = len(answers), answers.logits.shape[-1]
    scales = np.array([fusion.scales[look] for look in answers.looks])
    weights = np.array([fusion.weights[look] for look in answers.looks])
    total, weight = np.zeros((clips, classes)), np.zeros(clips)
    spent = np.zeros((clips, len(answers.parts)))
    scores, runs = [], []
    positions = _positions(answers.steps, len(plan.looks))
    rows = np.arange(clips)
    for place, look in enumerate(plan.looks):
        step = positions[:, place]
        ran = answers.ran[rows, answers.looks.index(look), np.maximum(step, 0)]
        taken = (step >= 0) & (ran >= 0)
        logits = answers.logits[rows, ran, np.maximum(step, 0)].astype(np.float64)
        total += np.where(taken[:, None], scales[ran][:, None] * logits, 0.0)
        weight += np.where(taken, weights[ran], 0.0)
        spent = spent + np.where(taken[:, None], answers.look_runs[ran], 0.0)
        scores.append(_softmax(total / np.where(weight > 0, weight, 1.0)[:, None] ** fusion.exponent))
        runs.append(spent)
    return Course(np.stack(scores, 1), np.stack(runs, 1))


def _positions(steps: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The step of each look (clips, count); -1 where a clip has no step for it."""
    by_length = {
        length: evenly_spaced(count, length) + [-1] * (count - min(count, length))
        for length in set(steps.tolist())
    }
    return np.array([by_length[length] for length in steps.tolist()], np.int64)


def _softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def schedules(answers: Answers) -> list[LookPlan]:
    """Every look at each count up to the longest clip's steps."""
    longest = int(answers.steps.max())
    counts = sorted({min(count, longest) for count in COUNTS})
    return [LookPlan((look,) * count) for look in answers.looks for count in counts]


def escalations(answers: Answers, order: list[str]) -> list[LookPlan]:
    """Plans that may be left early: many looks of one kind, or one or two of it and then those of another.

    ``order``: the looks to take, the cheapest first.
    """
    longest = min(int(answers.steps.max()), max(COUNTS))
    plans = [
        LookPlan((look,) * count)
        for look in order
        for count in sorted({min(8, longest), longest})
        if count > 1
    ]
    for place, cheap in enumerate(order):
        for big in order[place + 1 :]:
            for before in (1, 2):
                after = min(6, longest - before)
                if after > 0:
                    plans.append(LookPlan((cheap,) * before + (big,) * after))
    return plans
