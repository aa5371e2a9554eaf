"""``python -m tests.compiler.interrupted_training FOLDER``: a stage of four epochs on a few gray frames.

``--signal NUMBER EPOCH`` sends that signal to the process itself as the epoch begins; ``--resume`` goes on
from the last checkpoint. Prints the epochs that it begins.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from compiler.training.run import Hardware, TrainingRun, fit
from compiler.training.tasks.frames import FrameTask, branch_answer
from models.backbones.registry import BACKBONES
from models.recipe import Optimization
from runtimes.spec import View
from tests.models.small_arnet import SMALLEST

STAGE = "stage"
EPOCHS = 4


class GrayFrames(Dataset[tuple[Tensor, int]]):
    """Frames of one gray each; the two labels take turns."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, item: int) -> tuple[Tensor, int]:
        return torch.full((1, 32, 32, 3), 25 * item, dtype=torch.uint8), item % 2


class InterruptedTask(FrameTask):
    """Sends its process a signal as an epoch begins."""

    signal: tuple[int, int] | None = None

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        print("epoch", self.current_epoch, flush=True)
        if self.signal is not None and self.current_epoch == self.signal[1]:
            os.kill(os.getpid(), self.signal[0])
            time.sleep(10)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--signal", type=int, nargs=2)
    parser.add_argument("--resume", action="store_true")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    stage = Optimization(epochs=EPOCHS, lr=1e-3, batch=4, adam=True)
    task = InterruptedTask(BACKBONES[SMALLEST](2), branch_answer, View(name="rgb32", size=32), stage, 2)
    task.signal = arguments.signal
    run = TrainingRun(arguments.folder, 0, Hardware("cpu", "1"), arguments.resume, progress=False)
    fit(run, STAGE, task, GrayFrames(), GrayFrames())


if __name__ == "__main__":
    main()
