"""Choices in the proportions of the paper, whatever the policy says: the benchmarks' weights are random."""

from __future__ import annotations

import numpy as np

from runtimes.spec import Option, Variant
from sdk.decisions.choosers import LearnedChoice
from sdk.decisions.decision import Context, Decision, Plan
from sdk.decisions.fusion import Floats

TWENTY_STEPS = {"rgb224": 4, "rgb168": 3, "rgb112": 5, "rgb84": 2, "skip1": 6}


class ScriptedChoice(LearnedChoice):
    """Decides as the learned choice does, at the same cost, and then takes the next option of a script.

    The script holds each option as often as ``counts`` says, in an order drawn once.
    """

    def __init__(self, variant: Variant, counts: dict[str, int]) -> None:
        space = variant.action_space
        named = {option.name: option for option in space.options}
        names = np.repeat(list(counts), list(counts.values()))
        np.random.default_rng(0).shuffle(names)
        first = next(i for i, name in enumerate(names) if not named[name].skip)
        self._script = [named[name] for name in np.roll(names, -first)]
        self._step = 0
        super().__init__(space, np.arange(len(space.options), dtype=np.float64), price=0.01)
        self.options: tuple[Option, ...] = tuple(named[name] for name in counts)

    def decide(self, scores: Floats | None, plan: Plan, context: Context) -> Decision:
        """The next of the script."""
        super().decide(scores, plan, context)
        option = self._script[self._step % len(self._script)]
        self._step += 1
        return Decision((option,), max(option.skip - 1, 0), plan.price, context.allow_skip)

    def reset(self) -> None:
        """Begin the script anew."""
        self._step = 0
