"""For how many steps of a stream the looks of a schedule are remembered.

A clip is one event, of which every look says something. In a stream an answer that remembers for long lets
the event before speak into the next, and one that forgets at once knows little. What is best is found on
streams made of out-of-fold answers: clips in any order, between most of them a while in which nothing comes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compiler.operating_points.answers import Answers, Floats, Ints
from compiler.operating_points.plans import LookPlan
from runtimes.spec import LookFusion
from sdk.decisions.fusion import Fusion
from sdk.decisions.points.look_positions import from_first_step

_MOST_CLIPS = 400
"""Of which streams are made: of more, so many at random."""
_LONGEST_PAUSE = 2
"""Times a clip's length: pauses are up to so long, and half of them as long on average."""
_GIVEN_UP = 0.005
"""Of the steps answered right: where two memories differ by less, the shorter one is sooner right."""


def fit_memory(answers: Answers, fusion: LookFusion, plan: LookPlan, clip_steps: int) -> int | None:
    """Steps to remember, such as hold one, two, four, ... looks; None: as many as a clip has.

    ``clip_steps``: of the longest clip, in which a stream takes the plan's looks once.
    """
    apart = max(1, clip_steps // len(plan.looks))
    memories = [apart * 2**power for power in range(8) if apart * 2**power < clip_steps]
    if not memories:
        return None
    stream = _Stream(answers, plan, clip_steps)
    right = {memory: stream.right(fusion, memory) for memory in [*memories, clip_steps]}
    best = max(right.values())
    fitted = next(memory for memory, share in right.items() if share >= best - _GIVEN_UP)
    return fitted if fitted < clip_steps else None


class _Stream:
    """Clips one after the other, and the looks at them.

    ``steps``: (look, logits) of every step, None where nothing is looked at; ``targets`` (steps,): -1 between
    clips.
    """

    def __init__(self, answers: Answers, plan: LookPlan, clip_steps: int) -> None:
        random = np.random.default_rng(0)
        clips = random.permutation(len(answers))[:_MOST_CLIPS]
        due = dict(zip(from_first_step(len(plan.looks), clip_steps), plan.looks, strict=False))
        self.targets: list[int] = []
        self.steps: list[tuple[str, NDArray[np.float32]] | None] = []
        for clip in clips:
            length = int(answers.steps[clip])
            pause = int(random.integers(0, _LONGEST_PAUSE * length + 1))
            for step in range(length + pause):
                look = due.get(len(self.steps) % clip_steps)
                at = min(step, length - 1)  # in a pause the last picture stays
                self.steps.append(None if look is None else _answered(answers, clip, look, at))
                self.targets.append(int(answers.targets[clip]) if step < length else -1)

    def right(self, fusion: LookFusion, memory: int) -> float:
        """The share of the clips' steps that are answered right."""
        fuse, scores, hits, asked = Fusion(memory, fusion.exponent), None, 0, 0
        for step, target in zip(self.steps, self.targets, strict=True):
            scaled: Floats | None = None
            weight = 1.0
            if step is not None:
                look, logits = step
                scaled, weight = fusion.scales[look] * logits.astype(np.float64), fusion.weights[look]
            scores = fuse.update(scaled, weight)
            if target >= 0:
                asked += 1
                hits += scores is not None and int(scores.argmax()) == target
        return hits / asked


def _answered(
    answers: Answers, clip: np.int64, look: str, step: int
) -> tuple[str, NDArray[np.float32]] | None:
    """What a look at a clip's step answers, and what really ran: some of its views may be absent."""
    ran: Ints = answers.ran[clip, answers.looks.index(look), step].astype(np.int64)
    return None if ran < 0 else (answers.looks[int(ran)], answers.logits[clip, int(ran), step])
