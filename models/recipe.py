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
    without them it rises and falls once over the stage (one cycle). ``averaged``: the share of the stage,
    at its end, over whose steps the weights are averaged; their mean is what the stage leaves.
    ``probe_decay``: the classifier is first fitted on the pretrained features, with this weight decay; 0: it
    starts at random.
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
    averaged: float = 0.0
    probe_decay: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """The stages of an adaptive model.

    ``holdout``: the share of training clips that the branches do not see in their first stage, so that
    the policy learns from branch outputs as they will be on clips never seen; the fine-tuning stage (which
    0 epochs leave out) then trains the branches on all of them. ``flip``: mirror clips at random.
    ``augmentation``: what else happens to training images.

    Where the branches are frozen while the policy trains: ``start_skip``: the policy starts from a fixed
    schedule, the dearest branch and then a skip of so many frames; 0: from indifference. ``dense_targets``:
    how much of its target is what the dearest branch says of every step, the rest being the label.
    ``calibrated``: each option's logits are scaled on the clips held out before any are averaged. ``refit``:
    the branches are trained anew, from what they started from and on all clips, after the policy.
    """

    branches: Stage
    joint: Stage
    finetune: Stage
    qat: Stage
    holdout: float
    flip: bool
    augmentation: Augmentation = field(default_factory=Augmentation)
    start_skip: int = 0
    dense_targets: float = 0.0
    calibrated: bool = False
    refit: Stage | None = None

    def from_scratch(self) -> Recipe:
        """The same without what only makes sense for pretrained weights: nothing is frozen or probed."""

        def thawed(stage: Stage) -> Stage:
            return replace(stage, frozen_layers=0, frozen_norms=False, probe_decay=0.0)

        return replace(
            self,
            branches=thawed(self.branches if self.branches.epochs else self.refit or self.branches),
            joint=thawed(self.joint),
            finetune=thawed(self.finetune),
            qat=thawed(self.qat),
            refit=thawed(self.refit) if self.refit else None,
        )
