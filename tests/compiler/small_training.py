"""A small AR-Net and its training on a few clips.

``python -m tests.compiler.small_training CLIPS FOLDER`` trains and quantizes it in two processes, each of
which leaves its networks in ``FOLDER/rank<n>.pt``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from compiler.data.cache import ClipCache
from compiler.data.clips import find_clips
from compiler.export.split import Split
from compiler.manifest import manifest_fields
from compiler.quantization.networks import integer_networks
from compiler.training.run import Hardware, TrainingRun
from compiler.training.stages import train_float
from compiler.training.training import Training
from models.methods import arnet
from models.rollout.branch_model import POLICY
from tests.models.small_arnet import small_preset

CLASSES = ("cross", "disc", "square")
RATE_HZ = 2.0
CPU = Hardware(accelerator="cpu", devices="1")


def small_cache(clips: Path, root: Path) -> ClipCache:
    """The clips of ``clips`` at the small AR-Net's views."""
    preset = small_preset()
    views = list(arnet.METHOD.build(preset, CLASSES).views.values())
    return ClipCache.build(find_clips(clips), views, RATE_HZ, preset.steps, root)


def small_training(
    cache: ClipCache, folder: Path, hardware: Hardware = CPU, preset: arnet.Preset | None = None
) -> Training:
    """A small AR-Net of random weights, to be trained on ``cache`` with results in ``folder``."""
    preset = preset or small_preset()
    torch.manual_seed(0)
    model = arnet.METHOD.build(preset, cache.labels)
    run = TrainingRun(folder, seed=0, hardware=hardware, progress=False)
    return Training(model, arnet.plan(preset), cache, run, name="arnet")


def bundle_fields(training: Training, parts: Split, default: str) -> dict[str, object]:
    """The manifest of a small bundle, all but ``files``."""
    return manifest_fields(training, "small", "cpu", parts) | {"default_variant": default}


def main(clips: Path, folder: Path) -> None:
    """Train in two processes on this CPU."""
    cache = small_cache(clips, folder / "cache")
    training = small_training(cache, folder / "run", Hardware("cpu", "2", strategy="ddp"))
    train_float(training)
    parts = (POLICY, *training.model.branches)
    integer = integer_networks(training, parts, "uint8", cache.split("train"))
    networks = {"float": training.model, **integer}
    states = {name: network.state_dict() for name, network in networks.items()}
    torch.save(states, folder / f"rank{torch.distributed.get_rank()}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
