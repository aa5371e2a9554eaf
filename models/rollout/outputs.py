"""What branches answer, asked for step after step: computed before, or run when they are chosen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor

from models.augmentation import NO_AUGMENTATION, Augmentation
from models.rollout.branch_model import BranchModel
from runtimes.spec import Option


class BranchOutputs(ABC):
    """The class logits of branches along clips; a rollout asks for those of what it chose."""

    @abstractmethod
    def at(self, step: int, option: Option, chosen: Tensor) -> Tensor:
        """Class logits (B, C) of an option's branch at a step.

        ``chosen`` (B,): how far each clip chose the option; where it is 0 the logits do not count.
        """

    def at_every_step(self, branch: str) -> Tensor | None:
        """Class logits (B, T, C) of a branch at every step, if they are known; nothing is run for them."""
        return None


class ComputedOutputs(BranchOutputs):
    """Logits (B, T, C) by branch name that were computed before: of static branches, for any choice."""

    def __init__(self, logits: Mapping[str, Tensor]) -> None:
        self.logits = logits

    def at(self, step: int, option: Option, chosen: Tensor) -> Tensor:
        """Those of the step."""
        return self.logits[str(option.graph)][:, step]

    def at_every_step(self, branch: str) -> Tensor | None:
        """All of them."""
        return self.logits[branch]


class OutputsOnDemand(BranchOutputs):
    """Runs each branch on the views (B, T, ...) of the clips that chose it, when they choose it."""

    def __init__(
        self,
        model: BranchModel,
        views: Mapping[str, Tensor],
        augmentation: Augmentation = NO_AUGMENTATION,
    ) -> None:
        self.model, self.views, self.augmentation = model, views, augmentation

    def at(self, step: int, option: Option, chosen: Tensor) -> Tensor:
        """Of the clips that chose it; zeros for the others."""
        rows = chosen.detach() > 0
        zeros = chosen.new_zeros(len(chosen), len(self.model.labels))
        if not rows.any():
            return zeros
        frames = self.views[str(option.view)][rows, step]
        logits = self.model.branch_logits(str(option.graph), frames, self.augmentation)
        return zeros.index_put((rows,), logits)
