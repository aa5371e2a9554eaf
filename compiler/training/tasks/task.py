"""What all training tasks share: the optimizer, the learning rate over a stage, and what is logged."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from models.recipe import Optimization

_CLASSIFIERS = {"fc", "classifier", "classify"}
"""What backbones and the policy call their last layer."""


class Task(LightningModule):
    """Base: SGD and learning-rate schedule of a stage, and the accuracy of training and validation.

    ``network`` is what the stage trains, and its state dict what the stage leaves.
    """

    def __init__(self, network: nn.Module, optimization: Optimization, num_classes: int) -> None:
        super().__init__()
        self.network = network
        self.optimization = optimization
        self.train_accuracy = MulticlassAccuracy(num_classes, average="micro")
        self.val_accuracy = MulticlassAccuracy(num_classes, average="micro")

    def hold_norms(self) -> None:
        """Put batch norms in evaluation mode if the stage freezes their statistics."""
        if self.optimization.frozen_norms:
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
        rates = ((rest, 1.0), (last, self.optimization.classifier_lr_factor))
        return [{"params": params, "lr": self.optimization.lr * factor} for params, factor in rates if params]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The stage's optimizer; the rate drops at its milestones, or rises and falls once."""
        parameters, decay = self._parameter_groups(), self.optimization.weight_decay
        optimizer: torch.optim.Optimizer = (
            torch.optim.AdamW(parameters, self.optimization.lr, weight_decay=decay)
            if self.optimization.adam
            else torch.optim.SGD(parameters, self.optimization.lr, momentum=0.9, weight_decay=decay)
        )
        total = max(int(self.trainer.estimated_stepping_batches), 1)
        schedule: torch.optim.lr_scheduler.LRScheduler
        if self.optimization.milestones:
            milestones = [round(fraction * total) for fraction in self.optimization.milestones]
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
