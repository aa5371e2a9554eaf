"""The adaptive model as a whole, rolled out over the steps of clips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from compiler.data.batches import ClipBatch, OutputBatch
from compiler.training.tasks.task import Task
from models.augmentation import NO_AUGMENTATION, Augmentation
from models.losses import exponential_temperature
from models.policies.conditioning import draw_prices
from models.recipe import Optimization
from models.rollout.adaptive_model import AdaptiveModel
from models.rollout.outputs import OutputsOnDemand
from models.rollout.rollout import Rollout
from models.rollout.sampling import (
    Sampler,
    argmax_sampler,
    dense_sampler,
    gumbel_sampler,
    relative_costs,
)
from models.training_plan import RolloutLoss


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
        optimization: Optimization,
        parameters: Sequence[nn.Module],
        *,
        decided: bool = False,
        dense: bool = False,
        dropped: float = 0.0,
        augmentation: Augmentation = NO_AUGMENTATION,
    ) -> None:
        """``parameters``: what trains. ``decided``: choices are argmax, and only what they name runs.

        ``dense``: every group runs its most expensive branch at every step. ``dropped``: how likely a clip is
        trained on without each group.
        """
        super().__init__(model, optimization, len(model.labels))
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
        if self.optimization.alternating:
            trained = self.trained[:1] if self.current_epoch % 2 else self.trained[1:]
            self.model.requires_grad_(False)
            for module in trained:
                module.requires_grad_(True)
        for module in trained:
            module.train()
        self.hold_norms()

    def _parameter_groups(self) -> list[dict[str, Any]]:
        """As for any stage; where parts alternate, the policy's apart, with their own learning rate."""
        if not self.optimization.alternating:
            return super()._parameter_groups()
        policy, rest = self.trained[:1], self.trained[1:]
        rates = ((rest, 1.0), (policy, self.optimization.policy_lr_factor))
        return [
            {
                "params": [p for module in modules for p in module.parameters()],
                "lr": self.optimization.lr * factor,
            }
            for modules, factor in rates
        ]

    def _sampler(self) -> Sampler:
        if self.dense:
            return dense_sampler(self.relative)
        if self.decided or not self.training:
            return argmax_sampler(self.relative)
        # Schedules are the paper's, for 50 epochs: shorter or longer runs go through the same range.
        epoch = self.current_epoch * 50 / max(self.optimization.epochs, 1)
        temperature = exponential_temperature(epoch, decay=self.optimization.temperature_decay)
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


def drop_groups(available: Tensor, probability: float) -> Tensor:
    """Each clip without some groups, at random, of those that are ``available`` (B, T, groups); never all."""
    if not probability:
        return available
    dropped = torch.rand(len(available), 1, available.shape[2], device=available.device) < probability
    kept = available & ~dropped
    return torch.where(kept.any(dim=2, keepdim=True), kept, available)


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

    A soft choice needs every branch at every step. With ``only_chosen`` each branch sees only the frames that
    chose it: all at once where decisions depend on the policy alone, which then decides first; step after
    step where they also depend on what branches answered before.
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
        on_demand = OutputsOnDemand(model, views, augmentation)
        return model.rollout(features, on_demand, present, sample, available, price)
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
