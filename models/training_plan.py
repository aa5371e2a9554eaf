"""The training stages that methods declare: what each trains, on which clips, and by which loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, TypeVar

from torch import Tensor, nn

from models.augmentation import NO_AUGMENTATION, Augmentation
from models.layers.nested_layers import FOUR_BITS, Rule
from models.recipe import Optimization, Recipe
from models.rollout.rollout import Rollout

RolloutLoss = Callable[[Rollout, Tensor, Tensor, Tensor], Tensor]
"""Rollout, targets (B,) or their probabilities (B, C), present (B, T), costs (A,) to a scalar."""


class WidthsLoss(Protocol):
    """The loss of one network at all its bit-widths on one batch."""

    def __call__(
        self,
        network: nn.Module,
        answer: Callable[[], Tensor],
        targets: Tensor,
        widths: Sequence[int],
        *,
        progress: float,
    ) -> tuple[Tensor, Tensor]:
        """The loss, and the logits (B, C) of the highest width.

        ``answer()`` gives the network's logits (B, C) at the width that it is switched to; ``widths`` fall;
        ``progress`` is the share of the stage that is done.
        """
        ...


Clips = Literal["seen", "held out", "all"]
"""Training clips that the branches' first stages see; those held out from them; or all."""


@dataclass(frozen=True)
class TrainStage:
    """One stage of training.

    ``trains``: what it trains, in words. ``clips``: on which training clips. ``precision``: of its result.
    ``over_precisions``: whether it also runs where one policy chooses among precisions. ``optimization``:
    epochs, rates, batches, and what is frozen. The loss is the cross-entropy of the clip's label unless a
    stage declares its own.
    """

    optimization: Optimization
    trains: ClassVar[str]
    clips: ClassVar[Clips]
    precision: ClassVar[Literal["float", "int8", "widths"]] = "float"
    over_precisions: ClassVar[bool] = True


@dataclass(frozen=True)
class MatchSizes(TrainStage):
    """Networks that start from the same weights, at much smaller sizes of a view, pulled to the largest's.

    What a pretrained network knows is for the size of things that it was trained on (arXiv 1906.06423).
    Before ``TrainBackbones``; without labels, and of no effect where weights are random.
    """

    trains = "backbones"
    clips = "seen"


@dataclass(frozen=True)
class TrainBackbones(TrainStage):
    """Each branch alone on its view; each backbone of the policy with its head, or with one to discard."""

    trains = "backbones"
    clips = "seen"


@dataclass(frozen=True)
class WarmUp(TrainStage):
    """The branches and their fusion together, every group running at every step."""

    loss: RolloutLoss

    trains = "branches and fusion"
    clips = "all"
    over_precisions = False


@dataclass(frozen=True)
class TrainPolicy(TrainStage):
    """The policy by straight-through Gumbel sampling, and the branches unless they are frozen.

    ``name``: of its result. Where the branches are frozen: ``soft_targets``: how much of the target is what
    the most expensive branch answers over all steps, the rest being the label. ``calibrates_fusion``: each
    option's logits are scaled on the held-out clips before any are averaged.
    """

    loss: RolloutLoss
    name: str = "joint"
    soft_targets: float = 0.0
    calibrates_fusion: bool = False

    trains = "policy"
    clips = "held out"

    @property
    def frozen_branches(self) -> bool:
        """Whether the policy learns over branches that stay as they are."""
        return self.optimization.frozen_branches


@dataclass(frozen=True)
class RefitBranches(TrainStage):
    """Each branch once more from what it started as: no clip need be held out after the policy."""

    trains = "branches"
    clips = "all"


@dataclass(frozen=True)
class FinetuneBranches(TrainStage):
    """The branches and their fusion on the frames that choose them; the policy stays as it is."""

    loss: RolloutLoss

    trains = "branches and fusion"
    clips = "all"
    over_precisions = False


@dataclass(frozen=True)
class TrainIntegers(TrainStage):
    """Quantization-aware training of every network at int8, pulled to its float self.

    Looked up by its class, and declared last. A plan needs it for targets that have int8 networks, unless
    these all come from ``TrainWidths``.
    """

    trains = "networks"
    clips = "all"
    precision = "int8"


@dataclass(frozen=True)
class TrainWidths(TrainStage):
    """One weight set of each branch at all ``widths`` together: float (32), or bits of nested codes.

    Looked up by its class, and declared before ``TrainPolicy``, whose options are these networks.
    ``rule``, ``low_activations``, ``deviations``: see ``models/layers/nested_layers.py``.
    """

    loss: WidthsLoss
    widths: tuple[int, ...]
    rule: Rule = "centered"
    low_activations: bool = False
    deviations: float = FOUR_BITS

    trains = "branches"
    clips = "seen"
    precision = "widths"


StageKind = TypeVar("StageKind", bound=TrainStage)


@dataclass(frozen=True)
class TrainingPlan:
    """The stages in order, and what all of them share.

    ``holdout``: the share of training clips that the branches do not see in their first stages. ``flip``:
    mirror clips at random. ``augmentation``: what else happens to training images. ``dropped_modalities``:
    how likely a clip is trained on without each of its groups, never without all.
    """

    stages: tuple[TrainStage, ...]
    holdout: float = 0.0
    flip: bool = False
    augmentation: Augmentation = NO_AUGMENTATION
    dropped_modalities: float = 0.0

    def find(self, kind: type[StageKind]) -> StageKind | None:
        """The stage of a kind, if there is one."""
        return next((stage for stage in self.stages if isinstance(stage, kind)), None)

    def require(self, kind: type[StageKind]) -> StageKind:
        """The stage of a kind. Raises: LookupError if the method declares none."""
        stage = self.find(kind)
        if stage is None:
            raise LookupError(f"the method declares no stage {kind.__name__}")
        return stage


def plan_of(recipe: Recipe, *stages: TrainStage | None) -> TrainingPlan:
    """The plan of some stages, those that a preset does without left out, with what its recipe shares."""
    return TrainingPlan(
        tuple(stage for stage in stages if stage is not None),
        recipe.holdout,
        recipe.flip,
        recipe.augmentation,
        recipe.dropped_modalities,
    )


def policy_stage(recipe: Recipe, loss: RolloutLoss) -> TrainPolicy:
    """The policy's stage as a recipe has it."""
    assert recipe.joint is not None, "a method with a policy has a stage for it"
    return TrainPolicy(
        recipe.joint,
        loss,
        soft_targets=recipe.dense_targets,
        calibrates_fusion=recipe.calibrated,
    )
