"""What everything that may run answers at every step of clips that it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class LearnedAnswers:
    """What the policy at a price came to: ``scores`` (clips, classes), ``runs`` (clips, parts)."""

    price: float
    scores: Floats
    runs: Floats


@dataclass(frozen=True)
class Answers:
    """Of one variant, for some clips.

    ``looks``: what may run together at a step. ``logits`` (clips, looks, steps, classes); ``ran`` (clips,
    looks, steps): the look that really ran, as some of its views may be absent; -1 for none. ``parts``: the
    graphs (``graph@view``, a policy's first) and views that runs are counted of; ``look_runs``
    (looks, parts). ``steps``, ``targets`` (clips,); ``groups``: clips that belong together.
    """

    looks: tuple[str, ...]
    parts: tuple[str, ...]
    look_runs: Floats
    logits: NDArray[np.float32]
    ran: NDArray[np.int16]
    steps: Ints
    targets: Ints
    groups: tuple[str, ...]
    learned: tuple[LearnedAnswers, ...] = ()

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def clip_steps(self) -> int:
        """Steps of the longest clip."""
        return self.logits.shape[2]

    def save(self, file: Path) -> None:
        """Write them under a temporary name and rename it."""
        draft = file.with_suffix(".draft.npz")
        arrays = {
            "looks": np.array(self.looks),
            "parts": np.array(self.parts),
            "look_runs": self.look_runs,
            "logits": self.logits,
            "ran": self.ran,
            "steps": self.steps,
            "targets": self.targets,
            "groups": np.array(self.groups),
            "prices": np.array([one.price for one in self.learned]),
        }
        for place, one in enumerate(self.learned):
            arrays |= {f"scores{place}": one.scores, f"runs{place}": one.runs}
        np.savez_compressed(draft, allow_pickle=False, **arrays)
        draft.replace(file)

    @classmethod
    def load(cls, file: Path) -> Answers:
        """Read what ``save`` wrote. Raises: OSError, ValueError."""
        with np.load(file, allow_pickle=False) as kept:
            learned = tuple(
                LearnedAnswers(float(price), kept[f"scores{place}"], kept[f"runs{place}"])
                for place, price in enumerate(kept["prices"])
            )
            return cls(
                tuple(map(str, kept["looks"])),
                tuple(map(str, kept["parts"])),
                kept["look_runs"],
                kept["logits"],
                kept["ran"],
                kept["steps"],
                kept["targets"],
                tuple(map(str, kept["groups"])),
                learned,
            )


def joined(answers: Sequence[Answers]) -> Answers:
    """Those of several sets of clips as one; clips of fewer steps are padded."""
    first = answers[0]
    longest = max(one.clip_steps for one in answers)

    def padded(one: Answers) -> Answers:
        missing = longest - one.clip_steps
        logits = np.pad(one.logits, ((0, 0), (0, 0), (0, missing), (0, 0)))
        ran = np.pad(one.ran, ((0, 0), (0, 0), (0, missing)), constant_values=-1)
        return replace(one, logits=logits, ran=ran)

    parts = [padded(one) for one in answers]
    return replace(
        first,
        logits=np.concatenate([one.logits for one in parts]),
        ran=np.concatenate([one.ran for one in parts]),
        steps=np.concatenate([one.steps for one in parts]),
        targets=np.concatenate([one.targets for one in parts]),
        groups=tuple(group for one in parts for group in one.groups),
        learned=tuple(
            LearnedAnswers(
                same[0].price,
                np.concatenate([one.scores for one in same]),
                np.concatenate([one.runs for one in same]),
            )
            for same in zip(*(one.learned for one in parts), strict=True)
        ),
    )
