"""A small AR-Net and its training on a few clips.

``python -m tests.compiler.small_training CLIPS FOLDER`` trains and quantises it in two processes, each of
which leaves its networks in ``FOLDER/rank<n>.pt``.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import torch

from compiler.data.cache import ClipCache
from compiler.data.clips import find_clips
from compiler.export.split import Split
from compiler.quantization.networks import integer_networks
from compiler.training.run import Hardware, TrainingRun
from compiler.training.stages import Training, train_float
from models.methods import arnet
from models.rollout.adaptive import POLICY
from runtimes.spec import Fusion, Steps
from tests.models.small_arnet import small_preset

CLASSES = ("cross", "disc", "square")
RATE_HZ = 2.0
CPU = Hardware(accelerator="cpu", devices="1")


def small_cache(clips: Path, root: Path) -> ClipCache:
    """The clips of ``clips`` at the small AR-Net's views."""
    preset = small_preset()
    views = list(arnet.build(preset, CLASSES).views.values())
    return ClipCache.build(find_clips(clips), views, RATE_HZ, preset.steps, root)


def small_training(
    cache: ClipCache, folder: Path, hardware: Hardware = CPU, preset: arnet.Preset | None = None
) -> Training:
    """A small AR-Net of random weights, to be trained on ``cache`` with results in ``folder``."""
    preset = preset or small_preset()
    torch.manual_seed(0)
    model = arnet.build(preset, cache.labels)
    loss = partial(arnet.loss, preset=preset)
    run = TrainingRun(folder, seed=0, hardware=hardware, progress=False)
    return Training(model, preset.recipe, loss, cache, run, name="arnet")


def bundle_fields(training: Training, parts: Split, default: str) -> dict[str, object]:
    """The manifest of a small bundle, all but ``files``."""
    cache = training.cache
    return {
        "model": training.name,
        "preset": "small",
        "target": "cpu",
        "labels": cache.labels,
        "views": tuple(training.model.views.values()),
        "steps": Steps(rate_hz=cache.rate_hz, clip_steps=cache.clip_steps),
        "fusion": Fusion(window=cache.clip_steps),
        "graphs": parts.graphs,
        "stores": parts.stores,
        "variants": parts.variants,
        "default_variant": default,
    }


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
