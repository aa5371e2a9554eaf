"""Networks at smaller sizes of a view, pulled to the features of the network at the largest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from compiler.data.batches import ViewsBatch
from compiler.training.tasks.frames import stepwise
from compiler.training.tasks.task import Task
from models.backbones.blocks import Backbone
from models.recipe import Optimization
from models.rollout.branch_model import pixels
from runtimes.spec import View

_LEAST_DEVIATION = 0.05
"""Of a feature over a batch: those that hardly vary are not blown up."""


class SizeMatchingTask(Task):
    """Students see the same frames at their own sizes; each feature counts by how much it varies.

    Squared error of pooled features (feature distillation, arXiv 1412.6550), no labels. ``students``: by
    name, with ``views`` of as many; ``teacher_view``: what the teacher sees.
    """

    def __init__(
        self,
        students: Mapping[str, Backbone],
        views: Sequence[View],
        teacher: Backbone,
        teacher_view: View,
        optimization: Optimization,
        num_classes: int,
    ) -> None:
        super().__init__(nn.ModuleDict(dict(students)), optimization, num_classes)
        self.students = list(students.values())  # a plain list: the network has them already
        self.views, self.teacher_view = tuple(views), teacher_view
        self.teacher = [teacher]  # not a part: it is neither trained nor kept

    def on_train_epoch_start(self) -> None:
        """Keep batch norms as the stage has them."""
        self.hold_norms()

    def training_step(self, batch: ViewsBatch, _: int) -> Tensor:
        """Steps drawn from clips at every view, the teacher's first."""
        loss = self._loss(batch["views"])
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["label"]))
        return loss

    def validation_step(self, batch: ViewsBatch, _: int) -> None:
        """As training."""
        self.log("val/loss", self._loss(batch["views"]), prog_bar=True, batch_size=len(batch["label"]))

    def _loss(self, frames: Sequence[Tensor]) -> Tensor:
        """The mean of the students' errors."""
        teacher = self.teacher[0].to(self.device).eval()
        with torch.no_grad():
            wanted = _features(teacher, frames[0], self.teacher_view)
            deviation = wanted.std(dim=0).clamp_min(_LEAST_DEVIATION)
        errors = [
            ((_features(student, own, view) - wanted) / deviation).square().mean()
            for student, own, view in zip(self.students, frames[1:], self.views, strict=True)
        ]
        return torch.stack(errors).mean()


def _features(backbone: Backbone, frames: Tensor, view: View) -> Tensor:
    """Pooled features (B * K, F) of frames uint8 (B, K, S, S, 3)."""
    images = stepwise(pixels(frames.flatten(0, 1), view), frames)
    return backbone.embed(images.flatten(0, 1))
