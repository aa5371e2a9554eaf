"""Fusing answers: of the groups that ran at a step, and of the steps of a stream."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from runtimes import spec
from runtimes.spec import ActionSpace, Option

Floats = NDArray[np.floating]


class StepFusion:
    """One step's logits from those of the groups that ran: weighted, see ``runtimes.spec.Fusion``."""

    def __init__(self, fusion: spec.Fusion, space: ActionSpace) -> None:
        # By option: what was chosen is a tuple of these.
        self._weights = {
            option.name: fusion.weights.get(group.name, 1.0)
            for group in space.groups
            for option in group.options
        }
        self._renormalised = fusion.renormalised

    def fuse(self, answers: Sequence[tuple[Option, Floats]]) -> Floats | None:
        """Logits (classes,) of ``answers`` (option, logits); None if there are none."""
        if not answers:
            return None
        if len(answers) == 1 and self._renormalised:
            return answers[0][1]  # its weight cancels
        weights = [self._weights[option.name] for option, _ in answers]
        total = sum(w * logits.astype(np.float64) for w, (_, logits) in zip(weights, answers, strict=True))
        return np.asarray(total / sum(weights) if self._renormalised else total)


class Fusion:
    """Softmax of the mean of the logits of the last ``window`` steps; steps without output age the window.

    When a window has aged past its last output, the last scores stand.
    """

    _logits: NDArray[np.float64] | None
    _filled: list[bool]
    _scores: NDArray[np.float64] | None
    _step: int

    def __init__(self, window: int) -> None:
        self._window = window
        self.reset()

    def update(self, logits: Floats | None) -> NDArray[np.float64] | None:
        """Take one step's ``logits`` (classes,), None for no output; scores (classes,), None before any.

        The same array comes back as long as the scores stand.
        """
        if self._logits is None:
            if logits is None:
                return None
            self._logits = np.zeros((self._window, len(logits)))
        slot = self._step % self._window
        self._step += 1
        if logits is None and not self._filled[slot]:
            return self._scores
        self._logits[slot] = 0.0 if logits is None else logits
        self._filled[slot] = logits is not None
        filled = sum(self._filled)
        if filled:
            self._scores = _softmax(np.add.reduce(self._logits, axis=0) / filled)
        return self._scores

    def reset(self) -> None:
        """Begin a new stream."""
        self._logits = None
        self._filled = [False] * self._window
        self._scores = None
        self._step = 0


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    # Ufuncs called as such: the array methods take a detour through Python, at every step of a stream.
    powers = logits - np.maximum.reduce(logits)
    np.exp(powers, out=powers)
    powers /= np.add.reduce(powers)
    return powers
