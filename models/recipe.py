"""How a model is trained: plain numbers, one stage after the other."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from models.augmentation import Augmentation


@dataclass(frozen=True)
class Stage:
    """One stage of training with SGD (momentum 0.9), or Adam.

    ``frames``: frames drawn per clip, one from each of as many equal segments; 0 means every step.
    ``frozen_layers``: so many of a pretrained backbone's first layers keep their weights.
    ``classifier_lr_factor``: how much faster the last layers learn, which start from nothing.
    ``frozen_norms``: batch norms keep the statistics they came with, as small data sets need.
    ``frozen_branches``: only the policy's recurrent part and heads train, on features and branch logits
    computed once. ``milestones``: fractions of the epochs at which the learning rate drops tenfold;
    without them it rises and falls once over the stage (one cycle).
    """

    epochs: int
    lr: float
    batch: int
    frames: int = 0
    frozen_layers: int = 0
    frozen_norms: bool = False
    frozen_branches: bool = False
    milestones: tuple[float, ...] = ()
    weight_decay: float = 1e-4
    adam: bool = False
    label_smoothing: float = 0.0
    classifier_lr_factor: float = 1.0

    def from_scratch(self) -> Stage:
        """The same with nothing frozen."""
        return replace(self, frozen_layers=0, frozen_norms=False)


@dataclass(frozen=True)
class Recipe:
    """The stages of a model; those it does not have are None.

    ``branches``: networks alone, in float. ``multibit``: all bit-widths of a network together. ``joint``: the
    policy, with the branches unless they are frozen. ``finetune``: the branches again. ``qat``: int8.

    ``holdout``: the share of training clips that the branches do not see in their first stages, so that
    the policy learns from branch outputs as they will be on clips never seen; the fine-tuning stage then
    trains the branches on all of them. ``flip``: mirror clips at random. ``augmentation``: what else happens
    to training images.
    """

    branches: Stage
    multibit: Stage | None = None
    joint: Stage | None = None
    finetune: Stage | None = None
    qat: Stage | None = None
    holdout: float = 0.0
    flip: bool = False
    augmentation: Augmentation = field(default_factory=Augmentation)

    def from_scratch(self) -> Recipe:
        """The same without what only makes sense for pretrained weights: nothing is frozen."""
        return replace(
            self,
            branches=self.branches.from_scratch(),
            multibit=self.multibit and self.multibit.from_scratch(),
            joint=self.joint and self.joint.from_scratch(),
            finetune=self.finetune and self.finetune.from_scratch(),
            qat=self.qat and self.qat.from_scratch(),
        )
