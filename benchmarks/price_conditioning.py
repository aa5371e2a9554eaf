"""Policies that take the price as input, trained over all prices, against ones trained for one price each.

    python -m benchmarks.price_conditioning MODEL [--data DIR] [--preset tiny] [--init WEIGHTS] [--seeds 3]

MODEL is arnet, videoiq or adamml. Branches are trained once a seed, as compiled; all policies then learn over
the same frozen branches with the same recipe. At three prices: the accuracy of the policy that was trained
for just this price, beside what the conditioned policy reaches at the same cost (between the neighboring
points of its curve), on the validation clips; costs are the share of the most expensive option on every step.
Written to ``benchmarks/results/price-conditioning-<model>-<data>.json``.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

from benchmarks.record import write
from compiler.cli.stage_console import StageConsole
from compiler.data.batches import OutputBatch
from compiler.pipeline import compile_bundle
from compiler.request import DataRequest, ModelRequest, Request, TrainingRequest
from compiler.targets import find_targets
from compiler.training.policy.clip_outputs import clip_outputs
from compiler.training.policy.price_selection import PRICES
from compiler.training.policy.stage import train_policy
from compiler.training.training import Training
from models.rollout.sampling import argmax_sampler, relative_costs
from models.training_plan import TrainPolicy

_FIXED = (0.5, 2.0, 6.0)


class Point(NamedTuple):
    """A price's cost, in most expensive options a step, and accuracy."""

    cost: float
    accuracy: float


class PolicyIsNext(Exception):  # noqa: N818 - it ends a compile, not a mistake
    """Branches are trained and offered: this is what the policy would be trained with."""

    def __init__(self, training: Training, stage: TrainPolicy, costs: Tensor, frozen: bool) -> None:
        super().__init__()
        self.training, self.stage, self.costs, self.frozen = training, stage, costs, frozen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=("arnet", "videoiq", "adamml"))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--init", type=Path)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    rows = [row for seed in range(arguments.seeds) for row in _seed(arguments, seed)]
    summary = {
        f"price {price:g}": _summary([row for row in rows if row["price"] == price]) for price in _FIXED
    }
    name = arguments.data.name if arguments.data else "built-in"
    write(f"price-conditioning-{arguments.model}-{name}", {"summary": summary, "rows": rows})
    print(json.dumps(summary, indent=1))


def _seed(arguments: argparse.Namespace, seed: int) -> list[dict[str, Any]]:
    ready = _branches(arguments, seed)
    outputs = clip_outputs(ready.training, ready.training.cache.split("val"), False)
    samples = _kept(clip_outputs)
    conditioned = _policy(ready, "conditioned", None, samples)
    curve = [_point(conditioned, outputs, ready.costs, price) for price in PRICES]
    rows = []
    for price in _FIXED:
        alone = _policy(ready, f"at-{price:g}", price, samples)
        point = _point(alone, outputs, ready.costs, price)
        point = _point(conditioned, outputs, ready.costs, price)
        rows.append(
            {
                "seed": seed,
                "price": price,
                "alone": point._asdict(),
                "conditioned": point._asdict(),
                "conditioned at its cost": _between(curve, point.cost),
                "clips": len(outputs["label"]),
            }
        )
        print(json.dumps(rows[-1]), flush=True)
    return rows


def _branches(arguments: argparse.Namespace, seed: int) -> PolicyIsNext:
    """A compile up to its policy."""

    def stop(
        training: Training, stage: TrainPolicy, costs: Tensor, name: str = "", *, frozen: bool = False
    ) -> None:
        raise PolicyIsNext(training, stage, costs, frozen)

    request = Request(
        ModelRequest(arguments.model, arguments.preset, arguments.init),
        find_targets("cpu"),
        Path("build") / "nothing.bundle",
        DataRequest(arguments.data),
        training=TrainingRequest(seed=seed, resume=True),
    )
    with patch("compiler.training.stages.train_policy", stop), patch("compiler.variants.train_policy", stop):
        try:
            compile_bundle(request, StageConsole())
        except PolicyIsNext as ready:
            return ready
    raise SystemExit(f"{arguments.model}: has no policy")


def _policy(ready: PolicyIsNext, name: str, price: float | None, samples: Callable[..., Any]) -> Training:
    """The model with a policy that is trained at one price, or at all."""
    training = replace(ready.training, model=copy.deepcopy(ready.training.model))

    def always(count: int, device: torch.device | None = None) -> Tensor:
        return torch.full((count,), price, device=device)  # type: ignore[arg-type]

    drawn = nullcontext() if price is None else patch("compiler.training.tasks.rollout.draw_prices", always)
    with drawn, patch("compiler.training.policy.clip_outputs", samples):
        train_policy(training, ready.stage, ready.costs, f"conditioning-{name}", frozen=ready.frozen)
    return training


def _kept(make: Callable[..., OutputBatch]) -> Callable[..., OutputBatch]:
    """``clip_outputs`` that computes the same branches' outputs once: all policies learn from the same."""
    kept: dict[tuple[Any, ...], OutputBatch] = {}

    def outputs(training: Training, clips: Sequence[int], flip: bool) -> OutputBatch:
        key = (tuple(clips), flip)
        if key not in kept:
            kept[key] = make(training, clips, flip)
        return copy.deepcopy(kept[key])

    return outputs


def _point(training: Training, outputs: OutputBatch, costs: Tensor, price: float) -> Point:
    model, relative = training.adaptive.eval(), relative_costs(costs)
    with torch.no_grad():
        rollout = model.rollout(
            outputs["features"],
            outputs["branches"],
            outputs["present"],
            argmax_sampler(relative),
            outputs.get("available"),
            price,
        )
    right = (rollout.logits.argmax(dim=1) == outputs["label"]).float().mean()
    return Point(float((rollout.choices * relative).sum() / outputs["present"].sum()), float(right))


def _between(curve: Sequence[Point], cost: float) -> float:
    """Accuracy of the curve at a cost: between its neighboring points, level beyond its ends."""
    ordered = sorted(curve)
    return float(np.interp(cost, [point.cost for point in ordered], [point.accuracy for point in ordered]))


def _summary(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    gaps = [row["conditioned at its cost"] - row["alone"]["accuracy"] for row in rows]
    return {
        "alone": _shown([row["alone"]["accuracy"] for row in rows]),
        "cost": _shown([row["alone"]["cost"] for row in rows]),
        "conditioned at its cost": _shown([row["conditioned at its cost"] for row in rows]),
        "conditioned - alone": _shown(gaps),
    }


def _shown(values: Sequence[float]) -> str:
    return f"{mean(values):.3f} ± {stdev(values) if len(values) > 1 else 0:.3f}"


if __name__ == "__main__":
    main()
