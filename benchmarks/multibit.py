"""All bit-widths together against each alone, CoQuant's ideas on and off, and the rules of nesting.

    python -m benchmarks.multibit --data ../shared/data/imagenette160 [--seeds 3] [--epochs 6] [--size 96]
    python -m benchmarks.multibit --data ../shared/data/imagenette160 --rules

A small ResNet learns in float first; from there every way of training the bit-widths gets the same number of
epochs, the images in the same order, and activations of 8 bits. Validation accuracy of every width is
written to ``benchmarks/results/multibit-<data>.json`` with means and spread over the seeds; with ``--rules``
that of the rules by which lower codes nest, to ``nesting-rules-<data>.json``. What was trained before is
taken from the cache.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch.utils.data import DataLoader

from benchmarks.record import write
from compiler.data.cache import ClipCache
from compiler.data.clips import find_clips
from compiler.pipeline import TRAINING_FORMAT
from compiler.quantization.networks import multibit_network
from compiler.training.branches import train_backbones
from compiler.training.method_source import source_digest
from compiler.training.run import Hardware, TrainingRun
from compiler.training.tasks.frames import branch_answer
from compiler.training.training import Training
from models.augmentation import Augmentation
from models.layers.nested_layers import FOUR_BITS, WIDTHS, Rule, set_width
from models.methods import coquant
from models.methods.coquant import Transfer
from models.recipe import Optimization, Recipe
from models.rollout.branch_model import pixels
from models.training_plan import TrainBackbones, TrainWidths
from runtimes.cache import cache_folder

_TOGETHER = {
    "coquant": Transfer("adaptive", swap_blocks=True),
    "no block swapping": Transfer("adaptive", swap_blocks=False),
    "highest teacher": Transfer("highest", swap_blocks=True),
    "highest teacher, no block swapping": Transfer("highest", swap_blocks=False),
}
_RULES: tuple[Rule, ...] = ("centered", "floor", "rescaled")
_ALONE = Transfer("none", swap_blocks=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--rules", action="store_true")
    parser.add_argument("--runs", type=Path, default=cache_folder("runs"))
    arguments = parser.parse_args()
    rows = [row for seed in range(arguments.seeds) for row in _seed(arguments, seed)]
    summary = _summary(rows)
    settings = {"epochs": arguments.epochs, "size": arguments.size, "seeds": arguments.seeds}
    kind = "nesting-rules" if arguments.rules else "multibit"
    write(f"{kind}-{arguments.data.name}", {**settings, "summary": summary, "rows": rows})
    print(json.dumps(summary, indent=1))


def _ways(preset: coquant.Preset, rules: bool) -> dict[str, TrainWidths]:
    """Every way of training, by name."""

    def way(transfer: Transfer, widths: tuple[int, ...] = WIDTHS, rule: Rule = "centered") -> TrainWidths:
        changed = replace(
            preset, transfer=transfer, widths=widths, rule=rule, low_activations=False, deviations=FOUR_BITS
        )
        return coquant.widths_stage(changed)

    if rules:
        transfer = _TOGETHER["highest teacher, no block swapping"]
        return {f"rule {rule}": way(transfer, rule=rule) for rule in _RULES}
    ways = {name: way(transfer) for name, transfer in _TOGETHER.items()}
    return ways | {f"alone at {width}": way(_ALONE, (width,)) for width in WIDTHS}


def _seed(arguments: argparse.Namespace, seed: int) -> list[dict[str, Any]]:
    """Accuracy by width of every way, from one float network."""
    torch.manual_seed(seed)
    stage = Optimization(arguments.epochs, lr=2e-3, batch=16, frames=1, adam=True, weight_decay=0.02)
    recipe = Recipe(
        branches=replace(stage, epochs=2 * arguments.epochs),
        multibit=replace(stage, lr=1e-3),
        flip=True,
        augmentation=Augmentation(smallest_crop=0.5, lighting=0.2),
    )
    preset = replace(coquant.PRESETS["tiny"], recipe=recipe, size=arguments.size, steps=1)
    clips = find_clips(arguments.data)
    model = coquant.METHOD.build(preset, clips.labels)
    cache = ClipCache.build(clips, list(model.views.values()), 1.0, 1, cache_folder("clips"))
    facts = [TRAINING_FORMAT, source_digest(coquant.METHOD), asdict(preset), cache.fingerprint, seed]
    key = hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()[:12]
    folder = arguments.runs / f"multibit-{arguments.data.name}-{key}"
    run = TrainingRun(folder, seed, Hardware("cpu", "1"), resume=True, progress=False)
    training = Training(model, coquant.plan(preset), cache, run)
    train_backbones(training, training.plan.require(TrainBackbones))
    rows = []
    for name, way in _ways(preset, arguments.rules).items():
        own = replace(training, run=replace(run, folder=folder / name.replace(" ", "-").replace(",", "")))
        (branch,) = model.branches
        network = multibit_network(own, branch, way, training.seen())
        accuracy = {width: _accuracy(own, network, branch, width) for width in way.widths}
        print(f"seed {seed} {name}: {accuracy}", flush=True)
        rows.append({"seed": seed, "way": name, "accuracy": accuracy})
    return rows


def _accuracy(training: Training, network: torch.nn.Module, branch: str, width: int) -> float:
    """Share of right validation images at one width."""
    view = training.model.view_of(branch)
    val = training.cache.split("val")
    set_width(network, width)
    right = 0
    with torch.no_grad():
        for frames, targets in DataLoader(training.frames(view.name, 1, val, train=False), 32):
            images = pixels(frames.flatten(0, 1), view)[:, None]
            right += int((branch_answer(network, images).mean(1).argmax(1) == targets).sum())
    return right / len(val)


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over the seeds, by way and width."""
    summary: dict[str, Any] = {}
    for way in dict.fromkeys(row["way"] for row in rows):
        own = [row["accuracy"] for row in rows if row["way"] == way]
        summary[way] = {
            str(width): {
                "mean": round(mean(a[width] for a in own), 4),
                "deviation": round(stdev(a[width] for a in own), 4) if len(own) > 1 else None,
            }
            for width in own[0]
        }
    return summary


if __name__ == "__main__":
    main()
