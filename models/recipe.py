"""How a model is trained: plain numbers, one stage after the other."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from models.augmentation import Augmentation


@dataclass(frozen=True)
class Optimization:
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
    starts at random. ``alternating``: every even epoch trains the branches and the fusion, every odd one the
    policy, at ``policy_lr_factor`` times the rate. ``temperature_decay``: of the Gumbel-softmax per epoch, if
    there were 50 of them.
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
    alternating: bool = False
    policy_lr_factor: float = 1.0
    temperature_decay: float = 0.045

    def scaled(self, epochs: int | None, batch: int | None) -> Optimization:
        """The same with so many epochs, if it has any, and clips to a batch; None: as it is."""
        if not self.epochs:
            return self
        return replace(self, epochs=epochs or self.epochs, batch=batch or self.batch)

    def from_scratch(self) -> Optimization:
        """The same with nothing frozen or probed."""
        return replace(self, frozen_layers=0, frozen_norms=False, probe_decay=0.0)


@dataclass(frozen=True)
class Recipe:
    """The stages of a model; those it does not have are None.

    ``branches``: networks alone, in float. ``matched``: before them, pretrained networks at smaller sizes
    pulled to that of the largest. ``multibit``: all bit-widths of a network together. ``warmup``:
    the branches and their fusion, all groups running at every step. ``joint``: the policy, with the branches
    unless they are frozen. ``refit``: the branches anew, from what they started from and on all clips, after
    the policy. ``finetune``: the branches on. ``qat``: int8. ``scratch``: takes the place of ``branches`` and
    ``refit`` where nothing is pretrained.

    ``holdout``: the share of training clips that the branches do not see in their first stages, so that
    the policy learns from branch outputs as they will be on clips never seen; refitting or fine-tuning then
    trains the branches on all of them. ``flip``: mirror clips at random. ``augmentation``: what else happens
    to training images.

    Where the branches are frozen while the policy trains: ``dense_targets``: how much of its target is what
    the most expensive branch says of every step, the rest the label. ``calibrated``: each option's logits are
    scaled on the clips held out before any are averaged.

    ``folds``: by which operating points are judged on training clips, each by networks that never saw it; 1
    holds a share of the clips out for good, where training is too long for more.

    ``dropped_modalities``: how likely a clip is trained on without each of its groups, never without all.
    """

    branches: Optimization
    matched: Optimization | None = None
    multibit: Optimization | None = None
    joint: Optimization | None = None
    refit: Optimization | None = None
    finetune: Optimization | None = None
    qat: Optimization | None = None
    scratch: Optimization | None = None
    holdout: float = 0.0
    flip: bool = False
    augmentation: Augmentation = field(default_factory=Augmentation)
    dense_targets: float = 0.0
    calibrated: bool = False
    warmup: Optimization | None = None
    dropped_modalities: float = 0.0
    folds: int = 3

    def scaled(self, epochs: int | None, batch: int | None) -> Recipe:
        """The same with so many epochs, and clips to a batch, in every stage that has any; None: as it is."""
        return replace(
            self,
            branches=self.branches.scaled(epochs, batch),
            matched=self.matched and self.matched.scaled(epochs, batch),
            multibit=self.multibit and self.multibit.scaled(epochs, batch),
            joint=self.joint and self.joint.scaled(epochs, batch),
            refit=self.refit and self.refit.scaled(epochs, batch),
            finetune=self.finetune and self.finetune.scaled(epochs, batch),
            qat=self.qat and self.qat.scaled(epochs, batch),
            scratch=self.scratch and self.scratch.scaled(epochs, batch),
            warmup=self.warmup and self.warmup.scaled(epochs, batch),
        )

    @property
    def expects_weights(self) -> bool:
        """Whether it is made for pretrained weights: some stage probes or freezes them."""
        return self.from_scratch() != self

    def from_scratch(self) -> Recipe:
        """The same without what only makes sense for pretrained weights: nothing is frozen or probed."""
        return replace(
            self,
            branches=self.scratch or self.branches.from_scratch(),
            multibit=self.multibit and self.multibit.from_scratch(),
            joint=self.joint and self.joint.from_scratch(),
            warmup=self.warmup and self.warmup.from_scratch(),
            refit=None if self.scratch else self.refit and self.refit.from_scratch(),
            finetune=self.finetune and self.finetune.from_scratch(),
            qat=self.qat and self.qat.from_scratch(),
        )


MOBILENET_FEW_CLIPS = Optimization(
    epochs=2,
    lr=3e-5,
    batch=8,
    frames=2,
    frozen_layers=14,
    frozen_norms=True,
    adam=True,
    weight_decay=0.05,
    label_smoothing=0.1,
    probe_decay=0.05,
    averaged=1.0,
)
"""A pretrained MobileNetV2 on a few hundred clips: a linear probe, a few careful steps, their mean."""

MOBILENET_SIZES = Optimization(
    epochs=8, lr=5e-4, batch=8, frames=4, frozen_norms=True, adam=True, weight_decay=0.01
)
"""A pretrained MobileNetV2 at smaller sizes of a few hundred clips, pulled to itself at the largest."""

MOBILENET_SCRATCH = Optimization(
    epochs=60, lr=2e-3, batch=16, frames=2, adam=True, weight_decay=0.05, label_smoothing=0.1
)
"""A MobileNetV2 of random weights."""
