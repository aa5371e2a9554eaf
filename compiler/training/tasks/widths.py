"""One network at all its bit-widths together."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from compiler.training.tasks.frames import branch_answer, stepwise
from compiler.training.tasks.task import Task
from models.augmentation import NO_AUGMENTATION, Augmentation
from models.layers.nested_layers import set_width
from models.recipe import Optimization
from models.rollout.branch_model import pixels
from models.training_plan import WidthsLoss
from runtimes.spec import View


class WidthsTask(Task):
    """One network at all its bit-widths together, as a clip classifier."""

    def __init__(
        self,
        network: nn.Module,
        widths: Sequence[int],
        loss: WidthsLoss,
        view: View,
        optimization: Optimization,
        num_classes: int,
        *,
        frozen: Sequence[nn.Module] = (),
        augmentation: Augmentation = NO_AUGMENTATION,
    ) -> None:
        super().__init__(network, optimization, num_classes)
        self.widths, self.loss = tuple(widths), loss
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
        total, logits = self.loss(
            self.network, lambda: self._answer(images), targets, self.widths, progress=progress
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
