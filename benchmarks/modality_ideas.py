"""AdaMML's ideas on and off: what each is worth on one data set, branches trained once a seed.

    python -m benchmarks.modality_ideas --data DIR [--preset tiny] [--seeds 3]

Policies learn over the same frozen branches: as compiled; with the penalty of the released code, which has no
gradient; with logits not divided by the weights of what ran; with a policy that hears the branch's own
spectrogram through the branch's own kind of network; and without dropping modalities in training. Validation
accuracy, use of each modality, and multiply-accumulates beside the policy's, at the price that each chose on
clips held out. Also with the sound taken from every second clip. Written to
``benchmarks/results/modality-ideas-<data>.json``; what was trained before is taken from the cache.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

from benchmarks.record import write
from compiler.data.batches import OutputBatch
from compiler.data.cache import ClipCache
from compiler.data.clips import find_clips
from compiler.pipeline import TRAINING_FORMAT
from compiler.training.branches import train_backbones
from compiler.training.method_source import source_digest
from compiler.training.policy.clip_outputs import clip_outputs
from compiler.training.policy.option_macs import option_macs
from compiler.training.policy.stage import train_policy
from compiler.training.run import Hardware, TrainingRun
from compiler.training.training import Training
from models.macs import network_macs
from models.methods import adamml
from models.rollout.adaptive_model import AdaptiveModel
from models.rollout.rollout import Rollout
from models.rollout.sampling import argmax_sampler, relative_costs
from models.training_plan import TrainBackbones, TrainPolicy
from runtimes.cache import cache_folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=cache_folder("runs"))
    arguments = parser.parse_args()
    rows = [row for seed in range(arguments.seeds) for row in _seed(arguments, seed)]
    summary = _summary(rows)
    write(f"modality-ideas-{arguments.data.name}", {"summary": summary, "rows": rows})
    print(json.dumps(summary, indent=1))


def _ways(preset: adamml.Preset) -> dict[str, adamml.Preset]:
    """Each idea changed alone."""
    policy = {**preset.policy, "audio": preset.branches["audio"]}
    return {
        "as compiled": preset,
        "penalty as released": replace(preset, penalty="released"),
        "not renormalised": replace(preset, renormalised=False),
        "policy hears all": replace(preset, policy=policy),
        "nothing dropped": replace(preset, recipe=replace(preset.recipe, dropped_modalities=0.0)),
    }


def _seed(arguments: argparse.Namespace, seed: int) -> Iterator[dict[str, Any]]:
    preset = adamml.PRESETS[arguments.preset]
    preset = replace(preset, recipe=preset.recipe.from_scratch())
    clips = find_clips(arguments.data)
    for name, way in _ways(preset).items():
        torch.manual_seed(seed)
        model = adamml.METHOD.build(way, clips.labels)
        views, root = list(model.views.values()), cache_folder("clips")
        cache = ClipCache.build(clips, views, way.rate_hz, way.steps, root, segment_s=way.segment_s)
        facts = [TRAINING_FORMAT, source_digest(adamml.METHOD), asdict(preset), cache.fingerprint, seed]
        key = hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()[:12]
        folder = arguments.runs / f"modality-ideas-{arguments.data.name}-{key}"
        run = TrainingRun(folder, seed, Hardware("cpu", "1"), resume=True, progress=False)
        training = Training(model, adamml.plan(way), cache, run)
        stage = f"joint-{name.replace(' ', '-')}"
        train_backbones(training, training.plan.require(TrainBackbones))
        costs = option_macs(training.adaptive)
        price = train_policy(training, training.plan.require(TrainPolicy), costs, stage).price
        yield {"seed": seed, "way": name, "price": price, **_measured(training, costs, price)}


def _measured(training: Training, costs: torch.Tensor, price: float) -> dict[str, Any]:
    model = training.adaptive.eval()
    outputs = clip_outputs(training, training.cache.split("val"), False)
    policy = network_macs(model.policy, [model.views[name] for name in model.policy_views])
    whole = _rolled_out(model, outputs, costs, price)
    muted = _rolled_out(model, _muted(model, outputs), costs, price)
    used = whole.used.sum(dim=(0, 1)) / outputs["present"].sum()
    return {
        "accuracy": _accuracy(whole, outputs),
        "accuracy, half of the clips muted": _accuracy(muted, outputs),
        "used": {g.name: round(float(u), 3) for g, u in zip(model.space.groups, used, strict=True)},
        "mmacs of branches a segment": float((whole.choices * costs).sum() / outputs["present"].sum() / 1e6),
        "mmacs of the policy": policy / 1e6,
    }


def _rolled_out(model: AdaptiveModel, outputs: OutputBatch, costs: torch.Tensor, price: float) -> Rollout:
    with torch.no_grad():
        return model.rollout(
            outputs["features"],
            outputs["branches"],
            outputs["present"],
            argmax_sampler(relative_costs(costs)),
            outputs["available"],
            price,
        )


def _muted(model: AdaptiveModel, outputs: OutputBatch) -> OutputBatch:
    """The same without sound in every second clip."""
    place = [group.name for group in model.space.groups].index("audio")
    available = outputs["available"].clone()
    available[::2, :, place] = False
    return {**outputs, "available": available}


def _accuracy(rollout: Rollout, outputs: OutputBatch) -> float:
    return float((rollout.logits.argmax(dim=1) == outputs["label"]).float().mean())


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for way in dict.fromkeys(row["way"] for row in rows):
        own = [row for row in rows if row["way"] == way]
        summary[way] = {
            key: f"{mean(values):.3f} ± {stdev(values) if len(values) > 1 else 0:.3f}"
            for key in own[0]
            if isinstance(own[0][key], float)
            for values in [[row[key] for row in own]]
        }
        summary[way]["used"] = {n: round(mean(row["used"][n] for row in own), 3) for n in own[0]["used"]}
    return summary


if __name__ == "__main__":
    main()
