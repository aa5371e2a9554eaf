"""A quantized policy pulled to its float self."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from compiler.data.batches import ViewsBatch
from compiler.training.tasks.frames import stepwise
from compiler.training.tasks.rollout import drop_groups
from compiler.training.tasks.task import Task
from models.policies.conditioning import draw_answers, draw_prices
from models.policies.policy import StepPolicy
from models.recipe import Optimization
from models.rollout.branch_model import pixels
from runtimes.spec import View


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
        conditions = network.encode_conditions(prices, None if answers is None else answers[:, t])
        output = network.advance(joined[:, t], conditions, state)
        scores.append(output.scores)
        state = output.state
    return torch.stack(scores, 1), network.head_logits(features)


class PolicyDistillTask(Task):
    """A quantized policy pulled to its float teacher at every step: its scores, and its class logits if any.

    ``groups``: how many options each group has; each group's scores are a distribution. Prices are drawn, and
    so are the stream's answers, for a policy that takes them as input.
    """

    def __init__(
        self,
        network: StepPolicy,
        views: Sequence[View],
        groups: Sequence[int],
        optimization: Optimization,
        num_classes: int,
        teacher: StepPolicy,
        dropped: float = 0.0,
    ) -> None:
        super().__init__(network, optimization, num_classes)
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

    def draw_conditioning(self, images: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Prices (B,) and answers (B, K, C) that are drawn for a batch of images (B, K, ...)."""
        batch, steps = images[0].shape[:2]
        return draw_prices(batch, self.device), draw_answers(batch, steps, self.num_classes, self.device)

    def training_step(self, batch: ViewsBatch, _: int) -> Tensor:
        """Steps drawn from clips, in order of time."""
        images, available = self.images(batch["views"]), drop_groups(batch["available"], self.dropped)
        conditioning = self.draw_conditioning(images)
        scores, logits = policy_outputs(self.network, images, available, *conditioning)
        with torch.no_grad():
            wanted_scores, wanted_logits = policy_outputs(self.teacher, images, available, *conditioning)
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
