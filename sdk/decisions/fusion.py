"""Fusing answers: of the groups that ran at a step, and of the steps of a stream."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from runtimes import spec
from runtimes.spec import ActionSpace, Option

Floats = NDArray[np.floating]


class StepFusion:
    """One step's logits from those of the groups that ran: weighted, see ``runtimes.spec.Fusion``.

    ``looks``: scales and weights of what ran together, see ``runtimes.spec.LookFusion``.
    """

    def __init__(self, fusion: spec.Fusion, space: ActionSpace, looks: spec.LookFusion | None = None) -> None:
        self._looks = looks
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

    def fuse_weighted(self, answers: Sequence[tuple[Option, Floats]]) -> tuple[Floats | None, float]:
        """The same, scaled, and the weight that it has among those of other steps."""
        logits = self.fuse(answers)
        if self._looks is None or logits is None:
            return logits, 1.0
        look = "+".join(option.name for option, _ in answers)
        return self._looks.scales[look] * logits.astype(np.float64), self._looks.weights[look]


class Fusion:
    """Softmax of the mean of the logits of the last ``window`` steps; steps without output age the window.

    The mean, where each step has a weight and an exponent is given, is their sum over the ``exponent``-th
    power of the sum of the weights. When a window has aged past its last output, the last scores stand.
    """

    _logits: NDArray[np.float64] | None
    _weights: list[float]
    _scores: NDArray[np.float64] | None
    _step: int
    _counted: int

    def __init__(self, window: int, exponent: float = 1.0) -> None:
        self._window, self._exponent = window, exponent
        self.reset()

    def update(
        self, logits: Floats | None, weight: float = 1.0, last: int | None = None
    ) -> NDArray[np.float64] | None:
        """Take one step's ``logits`` (classes,), None for no output; scores (classes,), None before any.

        ``last``: only so many steps of the window count. The same array comes back as long as the scores
        stand.
        """
        if self._logits is None:
            if logits is None:
                return None
            self._logits = np.zeros((self._window, len(logits)))
        counted = self._window if last is None else min(last, self._window)
        leaving = self._weights[(self._step - counted) % self._window]
        stand = logits is None and not leaving and counted == self._counted
        slot, self._counted = self._step % self._window, counted
        self._step += 1
        self._logits[slot] = 0.0 if logits is None else logits
        self._weights[slot] = 0.0 if logits is None else weight
        if stand:
            return self._scores
        return self._fuse(self._logits, counted)

    def _fuse(self, logits: NDArray[np.float64], counted: int) -> NDArray[np.float64] | None:
        """Scores of the last steps; those there were if they have no output."""
        total, summed = sum(self._weights), logits
        if counted < self._window:
            slots = [(self._step - 1 - age) % self._window for age in range(counted)]
            total, summed = sum(self._weights[slot] for slot in slots), logits[slots]
        if total:
            self._scores = _softmax(np.add.reduce(summed, axis=0) / total**self._exponent)
        return self._scores

    def reset(self) -> None:
        """Begin a new stream."""
        self._logits = None
        self._weights = [0.0] * self._window
        self._scores = None
        self._step, self._counted = 0, self._window


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    # Ufuncs called as such: the array methods take a detour through Python, at every step of a stream.
    powers = logits - np.maximum.reduce(logits)
    np.exp(powers, out=powers)
    powers /= np.add.reduce(powers)
    return powers


class StreamFusion:
    """A stream's scores: as the model was trained to fuse, or as the looks of operating points are.

    Where one takes over from the other within a stream it begins anew; the last scores stand until it has an
    answer.
    """

    _scores: NDArray[np.float64] | None

    def __init__(self, fusion: spec.Fusion, space: ActionSpace, looks: spec.LookFusion | None = None) -> None:
        self._ways = {False: (StepFusion(fusion, space), Fusion(fusion.window))}
        if looks is not None:
            self._ways[True] = StepFusion(fusion, space, looks), Fusion(fusion.window, looks.exponent)
        self._as_looks = False
        self.reset()

    def update(
        self, answers: Sequence[tuple[Option, Floats]], *, as_looks: bool = False, last: int | None = None
    ) -> NDArray[np.float64] | None:
        """Take one step's answers (option, logits), maybe none; scores (classes,), None before any.

        ``last``: the steps whose answers count; None: the window's. The same array comes back as long as the
        scores stand.
        """
        step, stream = self._ways[as_looks]
        if as_looks != self._as_looks:
            self._as_looks = as_looks
            stream.reset()
        scores = stream.update(*step.fuse_weighted(answers), last)
        self._scores = self._scores if scores is None else scores
        return self._scores

    def begin_anew(self) -> None:
        """What comes next is another event: the last scores stand until it has an answer of its own."""
        for _, stream in self._ways.values():
            stream.reset()

    def reset(self) -> None:
        """Begin a new stream."""
        self._scores, self._as_looks = None, False
        for _, stream in self._ways.values():
            stream.reset()
