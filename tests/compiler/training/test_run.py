"""Stages run by Lightning: hardware, results, interruption, resumption, and two processes."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning import Trainer

from compiler.errors import CompileError
from compiler.training.run import CHECKPOINTS, Hardware, TrainingRun, fit
from compiler.training.tasks.frames import FrameTask, branch_answer
from models.backbones.registry import BACKBONES
from models.recipe import Optimization
from runtimes.spec import View
from tests.compiler.interrupted_training import EPOCHS, STAGE, GrayFrames
from tests.models.small_arnet import SMALLEST


def interruptible() -> None:
    """Let Ctrl-C reach a program even if the tests run in the background, where shells ignore it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def in_a_process(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a module of the tests as a program, on one thread a process."""
    command = [sys.executable, "-m", f"tests.compiler.{module}", *map(str, arguments)]
    root = Path(__file__).parents[3]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command,
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
        preexec_fn=interruptible,
    )


def epochs(ended: subprocess.CompletedProcess[str]) -> list[int]:
    """The epochs that a training began."""
    return [int(line.split()[1]) for line in ended.stdout.splitlines() if line.startswith("epoch ")]


def logged_epochs(folder: Path) -> set[int]:
    with (folder / "logs" / STAGE / "metrics.csv").open() as file:
        return {int(row["epoch"]) for row in csv.DictReader(file)}


@pytest.mark.slow
def test_a_killed_stage_goes_on_from_its_last_epoch(tmp_path: Path) -> None:
    killed, result = ("--signal", int(signal.SIGKILL)), tmp_path / f"{STAGE}.pt"
    assert epochs(in_a_process("interrupted_training", tmp_path, *killed, 2)) == [0, 1, 2]
    assert not result.exists() and not list(tmp_path.glob("*.draft"))

    # Killed again, it still goes on from the newest epoch.
    assert epochs(in_a_process("interrupted_training", tmp_path, "--resume", *killed, 3)) == [2, 3]
    assert not result.exists()
    ended = in_a_process("interrupted_training", tmp_path, "--resume")
    assert ended.returncode == 0, ended.stderr
    assert epochs(ended) == [3]
    assert max(logged_epochs(tmp_path)) == EPOCHS - 1
    assert torch.load(result, weights_only=True)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_an_interrupt_reaches_the_caller_and_leaves_a_checkpoint(tmp_path: Path) -> None:
    stopped = in_a_process("interrupted_training", tmp_path, "--signal", int(signal.SIGINT), 1)
    assert epochs(stopped) == [0, 1]
    assert stopped.stderr.splitlines()[-1] == "KeyboardInterrupt"
    assert [path.name for path in tmp_path.rglob("*.ckpt")] == ["last.ckpt"]
    assert not (tmp_path / f"{STAGE}.pt").exists()


def trained(folder: Path, *, resume: bool = False) -> tuple[TrainingRun, FrameTask]:
    """The stage, run here."""
    torch.manual_seed(0)
    stage = Optimization(epochs=EPOCHS, lr=1e-3, batch=4, adam=True)
    task = FrameTask(BACKBONES[SMALLEST](2), branch_answer, View(name="rgb32", size=32), stage, 2)
    run = TrainingRun(folder, 0, Hardware("cpu", "1"), resume, progress=False)
    fit(run, STAGE, task, GrayFrames(), GrayFrames())
    return run, task


def test_without_resume_a_stage_begins_anew(tmp_path: Path) -> None:
    checkpoint = tmp_path / CHECKPOINTS / STAGE / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"of another time")
    trained(tmp_path)
    assert logged_epochs(tmp_path) == set(range(EPOCHS))
    assert not checkpoint.exists()


def test_a_finished_stage_is_loaded_and_not_trained_again(tmp_path: Path) -> None:
    run, task = trained(tmp_path)
    assert run.done(STAGE)
    written = run.result(STAGE).stat().st_mtime_ns
    _, again = trained(tmp_path, resume=True)
    assert run.result(STAGE).stat().st_mtime_ns == written
    assert not task.network.training and not again.network.training
    states = task.network.state_dict(), again.network.state_dict()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def averaged(folder: Path, share: float) -> dict[str, torch.Tensor]:
    """What the stage leaves of one weight, and ``seen``: that weight after each step."""
    torch.manual_seed(0)
    stage = Optimization(epochs=EPOCHS, lr=1e-3, batch=4, adam=True, averaged=share)
    task = RememberedTask(BACKBONES[SMALLEST](2), branch_answer, View(name="rgb32", size=32), stage, 2)
    fit(TrainingRun(folder, 0, Hardware("cpu", "1"), progress=False), STAGE, task, GrayFrames(), GrayFrames())
    return {"left": task.weight().clone(), "seen": torch.stack(task.seen)}


class RememberedTask(FrameTask):
    """Keeps the last bias after every step."""

    def on_fit_start(self) -> None:
        self.seen: list[torch.Tensor] = []

    def weight(self) -> torch.Tensor:
        return list(self.network.parameters())[-1].detach()

    def on_train_batch_end(self, *_: object) -> None:
        self.seen.append(self.weight().clone())


@pytest.mark.parametrize(("share", "counted"), [(1.0, 8), (0.5, 4)])
def test_a_stage_leaves_the_mean_of_its_last_steps(tmp_path: Path, share: float, counted: int) -> None:
    weights = averaged(tmp_path, share)
    assert len(weights["seen"]) == 8  # 4 epochs of 2 batches
    assert torch.allclose(weights["left"], weights["seen"][-counted:].mean(0), atol=1e-6)
    assert not torch.equal(weights["left"], weights["seen"][-1])


def test_without_averaging_a_stage_leaves_its_last_step(tmp_path: Path) -> None:
    weights = averaged(tmp_path, 0.0)
    assert torch.equal(weights["left"], weights["seen"][-1])


def test_one_seed_gives_one_network(tmp_path: Path) -> None:
    one, other = (trained(tmp_path / name)[1].network.state_dict() for name in ("a", "b"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.slow
def test_two_processes_end_with_equal_networks(clips_root: Path, tmp_path: Path) -> None:
    """Every stage, branches that no frame chooses included, by gloo on this CPU."""
    ended = in_a_process("small_training", clips_root, tmp_path)
    assert ended.returncode == 0, ended.stderr[-3000:]
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert set(first) == {"float", "policy", "rgb64", "rgb48", "rgb40"}
    for name, state in first.items():
        assert all(torch.equal(value, second[name][key]) for key, value in state.items()), name


def test_hardware_reaches_the_trainer_as_it_is() -> None:
    hardware = Hardware("cpu", "2", 3, "ddp", "bf16-mixed")
    trainer = Trainer(logger=False, enable_checkpointing=False, **hardware.trainer_arguments())
    assert trainer.num_devices == 2
    assert trainer.num_nodes == 3
    assert trainer.world_size == 6
    assert type(trainer.strategy).__name__ == "DDPStrategy"
    assert trainer.precision == "bf16-mixed"


@pytest.mark.parametrize(
    ("gpu_here", "accelerator", "given", "wanted"),
    [
        (True, "auto", None, "16-mixed"),
        (True, "cpu", None, "32-true"),
        (False, "auto", None, "32-true"),
        (True, "auto", "32-true", "32-true"),
    ],
)
def test_default_precision(
    monkeypatch: pytest.MonkeyPatch, gpu_here: bool, accelerator: str, given: str | None, wanted: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu_here)
    assert Hardware(accelerator, precision=given).trainer_arguments()["precision"] == wanted


@pytest.mark.parametrize(("given", "wanted"), [("2", 2), ("0,1", "0,1"), ("auto", "auto")])
def test_devices(given: str, wanted: int | str) -> None:
    assert Hardware(devices=given).trainer_arguments()["devices"] == wanted


@pytest.mark.parametrize(
    "hardware",
    [
        Hardware(accelerator="abacus"),
        Hardware("cpu", devices="0"),
        Hardware("cpu", devices="two"),
        Hardware("cpu", "1", strategy="haste"),
        Hardware("cpu", "1", precision="7-bit"),
    ],
)
def test_hardware_that_is_not_there(hardware: Hardware) -> None:
    with pytest.raises(CompileError, match=r"hardware: .*; see --accelerator"):
        hardware.check()


def test_hardware_that_is_there() -> None:
    Hardware().check()
    Hardware("cpu", "2", strategy="ddp").check()


@pytest.mark.parametrize("left", [0, 100])
def test_a_result_that_is_cut_off_is_named(tmp_path: Path, left: int) -> None:
    run, _ = trained(tmp_path)
    file = run.result(STAGE)
    file.write_bytes(file.read_bytes()[:left])
    with pytest.raises(CompileError, match=f"{STAGE}.pt: is damaged; delete it, then compile again"):
        trained(tmp_path)
