"""A network of frames as a clip classifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from compiler.training.tasks.task import Task
from models.augmentation import NO_AUGMENTATION, Augmentation
from models.recipe import Optimization
from models.rollout.branch_model import pixels
from runtimes.spec import View


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
        optimization: Optimization,
        num_classes: int,
        *,
        teacher: nn.Module | None = None,
        frozen: Sequence[nn.Module] = (),
        augmentation: Augmentation = NO_AUGMENTATION,
    ) -> None:
        super().__init__(network, optimization, num_classes)
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
        smoothing = self.optimization.label_smoothing
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


def stepwise(images: Tensor, frames: Tensor) -> Tensor:
    """Flat images (B * K * F, C, H, W) as (B, K, ...), the shape of the ``frames`` that they were made of."""
    return images.view(*frames.shape[:-3], *images.shape[1:])


def branch_answer(network: nn.Module, images: Tensor) -> Tensor:
    """Logits (B, K, C) of a branch on images (B, K, 3, H, W) or (B, K, F, C, H, W), each step on its own."""
    return network(images.flatten(0, -4)).view(*images.shape[:2], -1)
