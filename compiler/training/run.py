"""Running a stage with Lightning: checkpoints, resumption, several devices, logs."""

from __future__ import annotations

import logging
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, RichProgressBar, WeightAveraging
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from compiler.errors import CompileError
from compiler.training.tasks.task import Task

CHECKPOINTS = "checkpoints"
_FULL_BYTES = 2**20
_LAST = "last"
_STATE, _FINDINGS = "state", "findings"


@dataclass(frozen=True)
class Hardware:
    """What reaches Lightning's Trainer as it is: the accelerator, devices, nodes, strategy and precision."""

    accelerator: str = "auto"
    devices: str = "auto"
    num_nodes: int = 1
    strategy: str = "auto"
    precision: str | None = None

    def trainer_arguments(self) -> dict[str, Any]:
        """Keyword arguments of the Trainer; the precision is 16-bit mixed on a GPU unless given."""
        on_gpu = torch.cuda.is_available() and self.accelerator != "cpu"
        precision = self.precision or ("16-mixed" if on_gpu else "32-true")
        devices = int(self.devices) if self.devices.isdigit() else self.devices
        return {
            "accelerator": self.accelerator,
            "devices": devices,
            "num_nodes": self.num_nodes,
            "strategy": self.strategy,
            "precision": precision,
        }

    def check(self) -> None:
        """Raises: CompileError for hardware that is not here, and settings that Lightning does not know."""
        try:
            Trainer(logger=False, enable_checkpointing=False, **self.trainer_arguments())
        except Exception as error:  # Lightning raises of every kind here
            fix = "see --accelerator, --devices, --num-nodes, --strategy and --precision"
            raise CompileError("hardware", str(error).rstrip("."), fix) from None


@dataclass(frozen=True)
class TrainingRun:
    """A folder where stages leave their results, and how they are run.

    A stage that is done leaves ``<stage>.pt`` and is not trained again. One that was interrupted leaves a
    checkpoint of its last epoch, from which ``resume`` continues.
    """

    folder: Path
    seed: int
    hardware: Hardware
    resume: bool = False
    progress: bool = True

    def result(self, stage: str) -> Path:
        """The file that a finished stage leaves: its state dict, with what it found if there is more."""
        return self.folder / f"{stage}.pt"

    def done(self, stage: str) -> bool:
        """Whether a stage is finished."""
        return self.result(stage).is_file()

    def state(self, stage: str) -> Mapping[str, Tensor]:
        """The state dict that a finished stage left. Raises: CompileError if its file is damaged."""
        return self._load(stage)[_STATE]

    def findings(self, stage: str) -> Mapping[str, Any] | None:
        """What a finished stage found beside its weights; None if that is not kept, or it is not finished.

        Raises: CompileError if its file is damaged.
        """
        return self._load(stage)[_FINDINGS] if self.done(stage) else None

    def save(self, stage: str, state: Mapping[str, Tensor], findings: Mapping[str, Any] | None) -> None:
        """Write a result under a temporary name and rename it: it is there whole or not at all."""
        self.folder.mkdir(parents=True, exist_ok=True)
        result = dict(state) if findings is None else {_STATE: dict(state), _FINDINGS: dict(findings)}
        draft = self.result(stage).with_suffix(".draft")
        torch.save(result, draft)
        draft.replace(self.result(stage))

    def keep_findings(self, stage: str, findings: Mapping[str, Any]) -> None:
        """Put what a finished stage found into its result; the first of several processes writes it."""
        if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
            self.save(stage, self.state(stage), findings)

    def _load(self, stage: str) -> dict[str, Any]:
        try:
            loaded = torch.load(self.result(stage), map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, UnpicklingError):  # what torch makes of a file that is cut off
            fix = "delete it, then compile again: that stage is trained anew"
            raise CompileError(self.result(stage), "is damaged", fix) from None
        return loaded if set(loaded) == {_STATE, _FINDINGS} else {_STATE: loaded, _FINDINGS: None}


def fit(run: TrainingRun, name: str, task: Task, train: Dataset[Any], val: Dataset[Any]) -> None:
    """Train a task's network for its stage's epochs, or load what the finished stage left.

    Raises: KeyboardInterrupt if the training was interrupted; its last epoch's checkpoint stays.
    CompileError if the disk is full, or the file of a finished stage is damaged.
    """
    if not run.done(name):
        with _full_disk_named(run.folder):
            _train(run, name, task, train, val)
    task.network.load_state_dict(run.state(name))
    task.network.eval()


@contextmanager
def _full_disk_named(folder: Path) -> Iterator[None]:
    """Say so if the disk is full: torch and Lightning report it as all kinds of errors."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except (OSError, RuntimeError) as error:
        if shutil.disk_usage(folder).free > _FULL_BYTES:
            raise
        raise CompileError(
            folder, "the disk is full", "free some space, then compile with --resume"
        ) from error


def _train(run: TrainingRun, name: str, task: Task, train: Dataset[Any], val: Dataset[Any]) -> None:
    folder = run.folder / CHECKPOINTS / name
    last = folder / f"{_LAST}.ckpt"
    if not run.resume:
        shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(run.seed)
    trainer = _trainer(run, name, folder, task)
    batch = task.optimization.batch
    # Batches come from mapped memory: worker processes would cost more than they bring on a small machine.
    workers = 0 if (os.cpu_count() or 1) <= 4 else 4
    generator = torch.Generator().manual_seed(run.seed)
    try:
        trainer.fit(
            task,
            DataLoader(train, batch, shuffle=True, num_workers=workers, generator=generator),
            DataLoader(val, batch, num_workers=workers),
            ckpt_path=str(last) if last.is_file() else None,
            weights_only=False,
        )
    except SystemExit:  # what Lightning makes of an interrupt
        raise KeyboardInterrupt from None
    task.cpu()
    if trainer.is_global_zero:
        run.save(name, task.network.state_dict(), None)
        shutil.rmtree(folder, ignore_errors=True)
    trainer.strategy.barrier(name)


class LastStepsMean(WeightAveraging):
    """Leaves the mean of the weights after each of a stage's last steps (arXiv 1803.05407).

    Few clips move the weights at random from step to step: their mean is steadier than where they end.
    """

    first: int
    """The step, from 0, with which the mean begins."""

    def __init__(self, share: float) -> None:
        """``share``: of the stage's steps, how many count."""
        super().__init__()
        self.share = share

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the first step that counts."""
        self.first = round((1 - self.share) * int(trainer.estimated_stepping_batches))

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """Whether the weights after this step count."""
        return step_idx is not None and step_idx >= self.first

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate the mean, once there is one."""
        if self._latest_update_step:
            super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Back to the weights that train."""
        if self._latest_update_step:
            super().on_validation_epoch_end(trainer, pl_module)


# Its banners and hints would drown the stages that the command line prints.
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def _trainer(run: TrainingRun, name: str, folder: Path, task: Task) -> Trainer:
    # One file, replaced after every epoch (save_last alone writes nothing before the end).
    checkpoint = ModelCheckpoint(folder, _LAST, every_n_epochs=1, enable_version_counter=False)
    callbacks: list[Callback] = [checkpoint]
    if run.progress:
        callbacks.append(RichProgressBar(leave=False))
    if task.optimization.averaged:
        callbacks.append(LastStepsMean(task.optimization.averaged))
    loggers: list[Logger] = [
        CSVLogger(run.folder / "logs", name=name, version=""),
        TensorBoardLogger(run.folder / "tensorboard", name=name, version=""),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Trainer(
            max_epochs=task.optimization.epochs,
            gradient_clip_val=20.0,
            callbacks=callbacks,
            logger=loggers,
            enable_progress_bar=run.progress,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=10,
            **run.hardware.trainer_arguments(),
        )
