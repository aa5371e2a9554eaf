"""What branches answer, asked for step after step: computed before, or run when they are chosen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor

from models.augmentation import NO_AUGMENTATION, Augmentation
from models.backbones.blocks import BranchState, Gates
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
    """Runs each branch on the views (B, T, ...) of the clips that chose it, when they choose it.

    What a branch carries from run to run is held, for each clip, through the steps at which it does not run.
    ``gates`` decide within branches, by their name. It serves one rollout.
    """

    def __init__(
        self,
        model: BranchModel,
        views: Mapping[str, Tensor],
        augmentation: Augmentation = NO_AUGMENTATION,
        gates: Mapping[str, Gates] | None = None,
    ) -> None:
        self.model, self.views, self.augmentation = model, views, augmentation
        self.gates = gates or {}
        self._states: dict[str, BranchState] = {}

    def at(self, step: int, option: Option, chosen: Tensor) -> Tensor:
        """Of the clips that chose it; zeros for the others."""
        rows = chosen.detach() > 0
        zeros = chosen.new_zeros(len(chosen), len(self.model.labels))
        if not rows.any():
            return zeros
        branch, frames = str(option.graph), self.views[str(option.view)][rows, step]
        held = self._states.get(branch) or self.model.backbone(branch).initial_state(len(chosen))
        state = tuple(part[rows] for part in held)
        output = self.model.run_branch(branch, frames, self.augmentation, self.gates.get(branch), state)
        self._states[branch] = tuple(
            part.index_put((rows,), new) for part, new in zip(held, output.state, strict=True)
        )
        return zeros.index_put((rows,), output.logits)
