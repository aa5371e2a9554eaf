"""What each training stage optimises, as Lightning modules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics.classification import MulticlassAccuracy

from compiler.data.batches import ClipBatch, OutputBatch, ViewsBatch
from models.augmentation import NO_AUGMENTATION, Augmentation
from models.layers.nested import set_width
from models.losses import exponential_temperature
from models.methods import coquant
from models.policies.conditioning import draw_answers, draw_prices
from models.policies.policy import StepPolicy
from models.recipe import Stage
from models.rollout.adaptive import (
    AdaptiveModel,
    Rollout,
    Sampler,
    argmax_sampler,
    dense_sampler,
    gumbel_sampler,
    pixels,
    relative_costs,
)
from runtimes.spec import View

RolloutLoss = Callable[[Rollout, Tensor, Tensor, Tensor], Tensor]
"""Rollout, targets (B,) or their probabilities (B, C), present (B, T), costs (A,) to a scalar."""


_CLASSIFIERS = {"fc", "classifier", "classify"}
"""What backbones and the policy call their last layer."""


class Task(LightningModule):
    """Base: SGD and learning-rate schedule of a stage, and the accuracy of training and validation.

    ``network`` is what the stage trains, and its state dict what the stage leaves.
    """

    def __init__(self, network: nn.Module, stage: Stage, num_classes: int) -> None:
        super().__init__()
        self.network = network
        self.stage = stage
        self.train_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.val_accuracy = MulticlassAccuracy(num_classes, average="micro")

    def hold_norms(self) -> None:
        """Put batch norms in evaluation mode if the stage freezes their statistics."""
        if self.stage.frozen_norms:
            for module in self.network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()

    def trained_parameters(self) -> list[nn.Parameter]:
        """The parameters that this stage changes."""
        return [p for p in self.parameters() if p.requires_grad]

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """The classifiers' parameters apart, with their own learning rate."""
        named = [(name, p) for name, p in self.named_parameters() if p.requires_grad]
        last = [p for name, p in named if set(name.split(".")) & _CLASSIFIERS]
        rest = [p for name, p in named if not set(name.split(".")) & _CLASSIFIERS]
        rates = ((rest, 1.0), (last, self.stage.classifier_lr_factor))
        return [{"params": params, "lr": self.stage.lr * factor} for params, factor in rates if params]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The stage's optimiser; the rate drops at its milestones, or rises and falls once."""
        stage = self.stage
        parameters, decay = self._parameter_groups(), stage.weight_decay
        optimizer: torch.optim.Optimizer = (
            torch.optim.AdamW(parameters, stage.lr, weight_decay=decay)
            if stage.adam
            else torch.optim.SGD(parameters, stage.lr, momentum=0.9, weight_decay=decay)
        )
        total = max(int(self.trainer.estimated_stepping_batches), 1)
        schedule: torch.optim.lr_scheduler.LRScheduler
        if stage.milestones:
            milestones = [round(fraction * total) for fraction in stage.milestones]
            schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones)
        else:
            peaks = [group["lr"] for group in optimizer.param_groups]
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peaks, total, cycle_momentum=False)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def report(self, loss: Tensor, logits: Tensor, targets: Tensor, *, train: bool) -> None:
        """Log the loss and the running accuracy."""
        name, metric = ("train", self.train_accuracy) if train else ("val", self.val_accuracy)
        metric(logits, targets)
        log = partial(self.log, prog_bar=True, on_step=False, on_epoch=True, batch_size=len(targets))
        log(f"{name}/loss", loss, sync_dist=not train)
        log(f"{name}/accuracy", metric)


class FrameTask(Task):
    """A network of frames as a clip classifier: cross-entropy of the mean of its logits over drawn frames.

    ``answer`` maps float images (B, K, 3, H, W) to logits (B, K, C). With a ``teacher`` (a float
    counterpart, same mapping) each frame's logits are also pulled to the teacher's.
    """

    def __init__(
        self,
        network: nn.Module,
        answer: Callable[[nn.Module, Tensor], Tensor],
        view: View,
        stage: Stage,
        num_classes: int,
        *,
        teacher: nn.Module | None = None,
        frozen: Sequence[nn.Module] = (),
        augmentation: Augmentation = NO_AUGMENTATION,
    ) -> None:
        super().__init__(network, stage, num_classes)
        self.augmentation = augmentation
        self.answer = answer
        self.view = view
        self.teacher = teacher.eval().requires_grad_(False) if teacher is not None else None
        self.frozen = list(frozen)  # a plain list: these are part of the network already
        for module in self.frozen:
            module.requires_grad_(False)

    def on_train_epoch_start(self) -> None:
        """Keep batch statistics of what is frozen, and the teacher, as they are."""
        for module in self.frozen:
            module.eval()
        self.hold_norms()
        if self.teacher is not None:
            self.teacher.eval()

    def images(self, frames: Tensor, *, augmented: bool) -> Tensor:
        """What the network sees of frames (B, K, S, S, 3): (B, K, 3, S, S); of segments, F times as many."""
        flat = pixels(frames.flatten(0, 1), self.view)
        if augmented:
            flat = self.augmentation.of_view(flat, self.view)
        return stepwise(flat, frames)

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """Frames uint8 (B, K, S, S, 3) and labels (B,)."""
        frames, targets = batch
        images = self.images(frames, augmented=True)
        logits = self.answer(self.network, images)
        smoothing = self.stage.label_smoothing
        loss = functional.cross_entropy(logits.mean(1), targets, label_smoothing=smoothing)
        if self.teacher is not None:
            with torch.no_grad():
                target = self.answer(self.teacher, images).softmax(-1)
            loss = loss + functional.cross_entropy(logits.flatten(0, 1), target.flatten(0, 1))
        self.report(loss, logits.mean(1), targets, train=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        """As training, without the teacher."""
        frames, targets = batch
        logits = self.answer(self.network, self.images(frames, augmented=False)).mean(1)
        self.report(functional.cross_entropy(logits, targets), logits, targets, train=False)


class MultiBitTask(Task):
    """One network at all its bit-widths together, as a clip classifier (see models/methods/coquant.py)."""

    def __init__(
        self,
        network: nn.Module,
        widths: Sequence[int],
        transfer: coquant.Transfer,
        view: View,
        stage: Stage,
        num_classes: int,
        *,
        frozen: Sequence[nn.Module] = (),
        augmentation: Augmentation = NO_AUGMENTATION,
    ) -> None:
        super().__init__(network, stage, num_classes)
        self.widths, self.transfer = tuple(widths), transfer
        self.view = view
        self.augmentation = augmentation
        self.val_by_width = nn.ModuleDict(
            {str(w): MulticlassAccuracy(num_classes, average="micro") for w in widths}
        )
        for module in frozen:
            module.requires_grad_(False)

    def on_train_epoch_start(self) -> None:
        """Put all in training mode (calibration left another); batch statistics stay if frozen."""
        self.network.train()
        self.hold_norms()

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """Frames uint8 (B, K, S, S, 3) and labels (B,): every width sees the same images."""
        frames, targets = batch
        flat = self.augmentation.of_view(pixels(frames.flatten(0, 1), self.view), self.view)
        images = stepwise(flat, frames)
        progress = self.global_step / max(int(self.trainer.estimated_stepping_batches) - 1, 1)
        total, logits = coquant.loss(
            self.network, lambda: self._answer(images), targets, self.widths, self.transfer, progress
        )
        self.report(total, logits, targets, train=True)
        return total

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        """The accuracy of every width."""
        frames, targets = batch
        images = stepwise(pixels(frames.flatten(0, 1), self.view), frames)
        for width in self.widths:
            set_width(self.network, width)
            metric = self.val_by_width[str(width)]
            assert isinstance(metric, MulticlassAccuracy)
            metric(self._answer(images), targets)
            self.log(f"val/accuracy_{width}", metric, on_step=False, on_epoch=True, batch_size=len(targets))

    def _answer(self, images: Tensor) -> Tensor:
        return branch_answer(self.network, images).mean(1)


def stepwise(images: Tensor, frames: Tensor) -> Tensor:
    """Flat images (B * K * F, C, H, W) as (B, K, ...), the shape of the ``frames`` that they were made of."""
    return images.view(*frames.shape[:-3], *images.shape[1:])


def branch_answer(network: nn.Module, images: Tensor) -> Tensor:
    """Logits (B, K, C) of a branch on images (B, K, 3, H, W) or (B, K, F, C, H, W), each step on its own."""
    return network(images.flatten(0, -4)).view(*images.shape[:2], -1)


def policy_outputs(
    network: nn.Module,
    images: Sequence[Tensor],
    available: Tensor | None = None,
    price: Tensor | float = 0.0,
    answers: Tensor | None = None,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Scores (B, K, A) and class logits (B, K, C) of each head along images of each of a policy's views.

    ``images``: (B, K, [F,] C, H, W) in order of time; ``available`` (B, K, groups); ``price`` (B,);
    ``answers`` (B, K, C): the stream's answer before each step, for a policy that recalls it.
    """
    assert isinstance(network, StepPolicy)
    batch, steps = images[0].shape[:2]
    features = network.embed(*(view.flatten(0, -4) for view in images)).view(batch, steps, -1)
    joined = network.join(features, available)
    prices = (features.new_zeros(batch) + price)[:, None]
    state = network.initial_state(batch)
    scores = []
    for t in range(steps):
        told = network.tell(prices, None if answers is None else answers[:, t])
        output = network.advance(joined[:, t], told, state)
        scores.append(output.scores)
        state = output.state
    return torch.stack(scores, 1), network.head_logits(features)


class PolicyDistillTask(Task):
    """A quantised policy pulled to its float teacher at every step: its scores, and its class logits if any.

    ``groups``: how many options each group has; each group's scores are a distribution. Prices are drawn, and
    so are the answers that a policy is told which recalls them.
    """

    def __init__(
        self,
        network: StepPolicy,
        views: Sequence[View],
        groups: Sequence[int],
        stage: Stage,
        num_classes: int,
        teacher: StepPolicy,
        dropped: float = 0.0,
    ) -> None:
        super().__init__(network, stage, num_classes)
        self.views, self.groups, self.dropped = tuple(views), list(groups), dropped
        self.num_classes = num_classes
        self.teacher = teacher.eval().requires_grad_(False)

    def on_train_epoch_start(self) -> None:
        """Keep the teacher as it is."""
        self.hold_norms()
        self.teacher.eval()

    def images(self, frames: Sequence[Tensor]) -> list[Tensor]:
        """What the policy sees of each view's frames (B, K, ...)."""
        views = zip(frames, self.views, strict=True)
        return [stepwise(pixels(steps.flatten(0, 1), view), steps) for steps, view in views]

    def told(self, images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Prices (B,) and answers (B, K, C) that are drawn for a batch of images (B, K, ...)."""
        batch, steps = images[0].shape[:2]
        return draw_prices(batch, self.device), draw_answers(batch, steps, self.num_classes, self.device)

    def training_step(self, batch: ViewsBatch, _: int) -> Tensor:
        """Steps drawn from clips, in order of time."""
        images, available = self.images(batch["views"]), drop_groups(batch["available"], self.dropped)
        told = self.told(images)
        scores, logits = policy_outputs(self.network, images, available, *told)
        with torch.no_grad():
            wanted_scores, wanted_logits = policy_outputs(self.teacher, images, available, *told)
        loss = scores.new_zeros(())
        for own, wanted in zip(logits, wanted_logits, strict=True):
            loss = loss + functional.cross_entropy(own.flatten(0, 1), wanted.flatten(0, 1).softmax(-1))
        split = torch.split
        pairs = zip(split(scores, self.groups, -1), split(wanted_scores, self.groups, -1), strict=True)
        for own, wanted in pairs:
            loss = loss + functional.cross_entropy(own.flatten(0, 1), wanted.flatten(0, 1).softmax(-1))
        self._report(loss, logits, batch["label"], train=True)
        return loss

    def validation_step(self, batch: ViewsBatch, _: int) -> None:
        """How right the first head is, or how far the scores are from the teacher's; at price 0."""
        images, available = self.images(batch["views"]), batch["available"]
        scores, logits = policy_outputs(self.network, images, available)
        if logits:
            loss = functional.cross_entropy(logits[0].mean(1), batch["label"])
        else:
            loss = functional.mse_loss(scores, policy_outputs(self.teacher, images, available)[0])
        self._report(loss, logits, batch["label"], train=False)

    def _report(self, loss: Tensor, logits: tuple[Tensor, ...], targets: Tensor, *, train: bool) -> None:
        if logits:
            self.report(loss, logits[0].mean(1), targets, train=train)
        else:
            self.log("train/loss" if train else "val/loss", loss, prog_bar=True, batch_size=len(targets))


def drop_groups(available: Tensor, probability: float) -> Tensor:
    """Each clip without some groups, at random, of those that are ``available`` (B, T, groups); never all."""
    if not probability:
        return available
    dropped = torch.rand(len(available), 1, available.shape[2], device=available.device) < probability
    kept = available & ~dropped
    return torch.where(kept.any(dim=2, keepdim=True), kept, available)


class RolloutTask(Task):
    """The adaptive model as a whole, rolled out over the steps of clips.

    Batches hold views (``ClipBatch``), or outputs computed once (``OutputBatch``). Each clip is trained on at
    a price of its own, from the whole range; validation is at price 1. If the stage is alternating, the first
    of ``parameters``, the policy, trains in odd epochs, and the rest in even ones.
    """

    def __init__(
        self,
        model: AdaptiveModel,
        loss: RolloutLoss,
        costs: Tensor,
        stage: Stage,
        parameters: Sequence[nn.Module],
        *,
        decided: bool = False,
        dense: bool = False,
        dropped: float = 0.0,
        augmentation: Augmentation = NO_AUGMENTATION,
    ) -> None:
        """``parameters``: what trains. ``decided``: choices are argmax, and only what they name runs.

        ``dense``: every group runs its dearest branch at every step. ``dropped``: how likely a clip is
        trained on without each group.
        """
        super().__init__(model, stage, len(model.labels))
        self.loss = loss
        self.decided = decided
        self.dense = dense
        self.dropped = dropped
        self.augmentation = augmentation
        self.register_buffer("costs", costs, persistent=False)
        self.register_buffer("relative", relative_costs(costs), persistent=False)
        self.costs: Tensor
        self.relative: Tensor
        self.model.requires_grad_(False)
        self.trained = list(parameters)
        for module in self.trained:
            module.requires_grad_(True)

    @property
    def model(self) -> AdaptiveModel:
        """The network, which a checkpoint holds once and under one name."""
        assert isinstance(self.network, AdaptiveModel)
        return self.network

    def on_train_epoch_start(self) -> None:
        """Only what trains is in training mode: the rest keeps its batch statistics."""
        self.model.eval()
        trained = self.trained
        if self.stage.alternating:
            trained = self.trained[:1] if self.current_epoch % 2 else self.trained[1:]
            self.model.requires_grad_(False)
            for module in trained:
                module.requires_grad_(True)
        for module in trained:
            module.train()
        self.hold_norms()

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """As for any stage; where parts alternate, the policy's apart, with their own learning rate."""
        if not self.stage.alternating:
            return super()._parameter_groups()
        policy, rest = self.trained[:1], self.trained[1:]
        rates = ((rest, 1.0), (policy, self.stage.policy_lr_factor))
        return [
            {"params": [p for module in modules for p in module.parameters()], "lr": self.stage.lr * factor}
            for modules, factor in rates
        ]

    def _sampler(self) -> Sampler:
        if self.dense:
            return dense_sampler(self.relative)
        if self.decided or not self.training:
            return argmax_sampler(self.relative)
        # Schedules are the paper's, for 50 epochs: shorter or longer runs go through the same range.
        epoch = self.current_epoch * 50 / max(self.stage.epochs, 1)
        temperature = exponential_temperature(epoch, decay=self.stage.temperature_decay)
        return gumbel_sampler(temperature, self.relative)

    def _rollout(self, batch: Any) -> Rollout:
        available = batch.get("available")
        if available is not None and self.training:
            available = drop_groups(available, self.dropped)
        clips = len(batch["label"])
        price = draw_prices(clips, self.device) if self.training else torch.ones(clips, device=self.device)
        if "features" in batch:
            return self.model.rollout(
                batch["features"], batch["branches"], batch["present"], self._sampler(), available, price
            )
        only_chosen = self.decided or not self.training
        augmentation = self.augmentation if self.training else NO_AUGMENTATION
        if available is not None:
            batch = {**batch, "available": available}
        return roll_out_clips(
            self.model, batch, self._sampler(), augmentation, only_chosen=only_chosen, price=price
        )

    def training_step(self, batch: ClipBatch | OutputBatch, _: int) -> Tensor:
        """One batch of clips."""
        rollout = self._rollout(batch)
        targets = cast(Tensor, batch.get("target", batch["label"]))
        loss = self.loss(rollout, targets, batch["present"], self.costs)
        self.report(loss, rollout.logits, batch["label"], train=True)
        if self.trainer.world_size > 1 or not loss.requires_grad:
            # Branches that no frame chose: processes that average gradients, and backward, need a zero.
            loss = loss + 0 * sum(parameter.sum() for parameter in self.trained_parameters())
        return loss

    def validation_step(self, batch: ClipBatch | OutputBatch, _: int) -> None:
        """One batch of clips; decisions are argmax."""
        rollout = self._rollout(batch)
        loss = self.loss(rollout, batch["label"], batch["present"], self.costs)
        self.report(loss, rollout.logits, batch["label"], train=False)
        cost = (rollout.choices * self.relative).sum() / batch["present"].sum()
        self.log("val/relative_cost", cost, prog_bar=True, batch_size=len(batch["label"]), sync_dist=True)


def roll_out_clips(
    model: AdaptiveModel,
    batch: ClipBatch,
    sample: Sampler,
    augmentation: Augmentation = NO_AUGMENTATION,
    *,
    only_chosen: bool,
    price: Tensor | float = 0.0,
) -> Rollout:
    """Roll a model out over clips' views; branches see them augmented, the policy as they are.

    A soft choice needs every branch at every step. With ``only_chosen`` the decisions (which depend on the
    policy alone) are made first, and each branch sees only the frames that chose it.

    Raises: ValueError with ``only_chosen`` for a policy whose decisions depend on answers.
    """
    views, present, available = batch["views"], batch["present"], batch.get("available")
    shape = present.shape
    features = model.embed({name: views[name].flatten(0, 1) for name in model.policy_views}).view(*shape, -1)
    if not only_chosen:
        logits = {}
        for name in model.branches:
            frames = views[model.view_of(name).name].flatten(0, 1)
            logits[name] = model.branch_logits(name, frames, augmentation).view(*shape, -1)
        return model.rollout(features, logits, present, sample, available, price)
    if model.policy.recalls:
        raise ValueError("what this policy decides depends on what branches answer: run them all")
    zeros = features.new_zeros(*shape, len(model.labels))
    with torch.no_grad():
        nothing = dict.fromkeys(model.branches, zeros)
        decisions = model.rollout(features, nothing, present, sample, available, price).choices
    logits = {}
    for i, option in enumerate(model.space.options):
        if option.graph is not None and option.graph in model.branches:
            chosen = decisions[:, :, i] > 0
            logits[option.graph] = zeros.clone()
            if chosen.any():
                frames = views[str(option.view)][chosen]
                answers = model.branch_logits(option.graph, frames, augmentation)
                logits[option.graph] = zeros.index_put((chosen,), answers)
    return model.rollout(features, logits, present, sample, available, price)
