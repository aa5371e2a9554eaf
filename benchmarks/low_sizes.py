"""AR-Net's branches by size, with and without matching smaller sizes to the largest before they are trained.

    python -m benchmarks.low_sizes --data ../shared/data/ucf101_six --init WEIGHTS [--seeds 3]

Preset ``mobile``. Every branch is trained on all training clips as a compile does after the policy
(``RefitBranches``), with the stage ``MatchSizes`` before it and without. Validation accuracy of one frame
(the mean over all steps), of four, and of all, mean and spread over the seeds. Written to
``benchmarks/results/low-sizes-<data>.json``. What was trained before is taken from the cache.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean, stdev

import torch

from benchmarks.record import write
from compiler.data.cache import ClipCache
from compiler.data.clips import find_clips
from compiler.pipeline import TRAINING_FORMAT
from compiler.training.branches import branch_states, refit_branches
from compiler.training.method_source import source_digest
from compiler.training.run import Hardware, TrainingRun
from compiler.training.size_matching import match_sizes
from compiler.training.training import Training
from models.backbones.weights import load_weights
from models.methods import arnet
from models.rollout.branch_model import pixels
from models.training_plan import MatchSizes, RefitBranches, plan_of
from runtimes.cache import cache_folder

_RATE_HZ = 4.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--init", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=_RATE_HZ)
    parser.add_argument("--runs", type=Path, default=cache_folder("runs"))
    arguments = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {"matched": [], "as they come": []}
    for seed in range(arguments.seeds):
        for way in found:
            found[way].append(_accuracies(arguments, seed, matched=way == "matched"))
            print(f"seed {seed}, {way}: {found[way][-1]}", flush=True)
    names = list(found["matched"][0])
    rows = {
        name: {way: _spread([one[name] for one in of_seeds]) for way, of_seeds in found.items()}
        | {"difference": _spread([on[name] - off[name] for on, off in zip(*found.values(), strict=True)])}
        for name in names
    }
    write(f"low-sizes-{arguments.data.name}", {"seeds": arguments.seeds, "accuracy": rows, "each": found})
    for name, row in rows.items():
        print(name, row)


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "mean": round(mean(values), 4),
        "deviation": round(stdev(values), 4) if len(values) > 1 else 0.0,
    }


def _accuracies(arguments: argparse.Namespace, seed: int, *, matched: bool) -> dict[str, float]:
    """By branch and number of frames."""
    torch.manual_seed(seed)
    preset = arnet.PRESETS["mobile"]
    recipe = replace(preset.recipe, holdout=0.0)
    clips = find_clips(arguments.data)
    model = arnet.METHOD.build(preset, clips.labels)
    views = list(model.views.values())
    cache = ClipCache.build(clips, views, arguments.rate, preset.steps, cache_folder("clips"))
    for name, backbone in model.backbones().items():
        load_weights(backbone, arguments.init, model.view_of(name))
    facts = [TRAINING_FORMAT, source_digest(arnet.METHOD), asdict(preset), cache.fingerprint, seed, matched]
    key = hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()[:12]
    folder = arguments.runs / f"low-sizes-{arguments.data.name}-{key}"
    run = TrainingRun(folder, seed, Hardware("cpu", "1"), resume=True, progress=False)
    assert recipe.matched is not None and recipe.refit is not None, "the preset has both stages"
    sizes, refit = MatchSizes(recipe.matched), RefitBranches(recipe.refit)
    training = Training(model, plan_of(recipe, sizes, refit), cache, run)
    if matched:
        match_sizes(training, sizes)
    refit_branches(training, refit, branch_states(model))
    return {
        f"{name}, {said}": value for name in model.branches for said, value in _judged(training, name).items()
    }


def _judged(training: Training, name: str) -> dict[str, float]:
    """Validation accuracy of a branch."""
    cache, view = training.cache, training.model.view_of(name)
    one, four, every = [], [], []
    with torch.no_grad():
        for clip in cache.split("val"):
            frames = torch.from_numpy(cache.frames(clip, view.name).copy())
            logits = training.model.branches[name](pixels(frames, view))
            target = cache.target(clip)
            middles = [int((i + 0.5) * len(frames) / 4) for i in range(4)]
            one.append(float((logits.argmax(-1) == target).float().mean()))
            four.append(float(logits[middles].mean(0).argmax() == target))
            every.append(float(logits.mean(0).argmax() == target))
    return {"one frame": round(mean(one), 4), "four": round(mean(four), 4), "all": round(mean(every), 4)}


if __name__ == "__main__":
    main()
