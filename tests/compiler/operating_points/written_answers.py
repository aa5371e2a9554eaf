"""Answers of networks that do not exist: three looks of rising cost and worth, on clips of several groups."""

from __future__ import annotations

import numpy as np

from compiler.operating_points.answers import Answers, LearnedAnswers

LOOKS = ("small", "middle", "big")
PARTS = ("policy@small", "net@small", "net@middle", "net@big")
COSTS = np.array([0.5, 1.0, 3.0, 9.0])
CLASSES = 4


def written_answers(
    seed: int,
    clips: int = 120,
    steps: int = 8,
    *,
    worth: tuple[float, ...] = (0.6, 1.0, 1.6),
    groups: int = 30,
    learned: bool = False,
) -> Answers:
    """Logits whose true class leads by each look's ``worth`` on average; some clips are harder."""
    draw = np.random.default_rng(seed)
    targets = draw.integers(CLASSES, size=clips)
    easy = draw.gamma(1.5, 1.0, size=clips)
    own = np.eye(CLASSES)[targets]
    # What all steps of a clip have in common, and what each adds.
    common = draw.normal(size=(clips, 1, 1, CLASSES))
    noise = 0.6 * common + 0.8 * draw.normal(size=(clips, len(LOOKS), steps, CLASSES))
    lead = easy[:, None, None, None] * np.array(worth)[None, :, None, None] * own[:, None, None, :]
    lengths = draw.integers(max(1, steps // 2), steps + 1, size=clips)
    lengths[0] = steps
    ran = np.broadcast_to(np.arange(len(LOOKS), dtype=np.int16)[None, :, None], (clips, len(LOOKS), steps))
    policy = LearnedAnswers(
        0.5,
        np.asarray(own * 0.9 + 0.025, np.float64) if learned else np.full((clips, CLASSES), 1 / CLASSES),
        np.tile(np.array([4.0, 0.0, 0.0, 1.0]), (clips, 1)),
    )
    return Answers(
        LOOKS,
        PARTS,
        np.eye(len(LOOKS), len(PARTS), k=1),
        (lead + noise).astype(np.float32),
        ran.copy(),
        lengths,
        targets,
        tuple(f"group{number}" for number in draw.integers(groups, size=clips)),
        (policy,),
    )
