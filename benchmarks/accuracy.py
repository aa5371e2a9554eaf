"""A model's accuracy and cost over seeds: dense, adaptive and the static front, in every variant.

    python -m benchmarks.accuracy [--model arnet] [--data DIR --preset mobile --init WEIGHTS] [--seeds 3]

Compiles once per seed (a bundle that is there already is read as it is) and takes every number from the
bundles' manifests. Without ``--data``: the built-in clips. Written to
``benchmarks/results/accuracy-<data>-<preset>.json`` with means and 95 % intervals over the seeds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.record import write
from compiler.cli.stage_console import StageConsole
from compiler.pipeline import compile_bundle
from compiler.request import DataRequest, ModelRequest, Request, TrainingRequest
from compiler.targets import find_targets
from runtimes.bundle import Bundle

# Two-sided 95 % of Student's t for n - 1 degrees of freedom.
_STUDENT = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="arnet")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--init", type=Path)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--bundles", type=Path, default=Path("build/bundles"))
    arguments = parser.parse_args()
    rows = [row for seed in range(arguments.seeds) for row in _compiled(arguments, seed)]
    summary = _summary(rows)
    write(f"accuracy-{_name(arguments)}", {"seeds": arguments.seeds, "summary": summary, "rows": rows})
    print(json.dumps(summary, indent=1))


def _name(arguments: argparse.Namespace) -> str:
    model = "" if arguments.model == "arnet" else f"{arguments.model}-"
    return f"{model}{arguments.data.name if arguments.data else 'built-in'}-{arguments.preset}"


def _compiled(arguments: argparse.Namespace, seed: int) -> list[dict[str, Any]]:
    out = arguments.bundles / f"{_name(arguments)}-seed{seed}.bundle"
    if out.exists():
        return _rows(Bundle.open(out), seed)
    request = Request(
        ModelRequest(arguments.model, arguments.preset, arguments.init),
        find_targets(arguments.target),
        out,
        DataRequest(arguments.data),
        training=TrainingRequest(seed=seed, resume=True),
    )
    return _rows(compile_bundle(request, StageConsole()), seed)


def _rows(bundle: Bundle, seed: int) -> list[dict[str, Any]]:
    """Per variant: dense, adaptive, and the best static choice that costs no more than adaptive."""
    outcomes: list[Any] = bundle.manifest.accuracy["outcomes"]  # type: ignore[assignment]
    rows = []
    for variant in bundle.manifest.variants:
        own = [o for o in outcomes if o["variant"] == variant.name]
        static = [o for o in own if o["kind"] == "static"]
        dense = max(static, key=lambda o: o["ms_per_clip"])
        adaptive = next((o for o in own if o["kind"] == "adaptive"), None)
        if adaptive is None:
            raise SystemExit(f"{bundle.location}: has no policy; see its report for the precisions' accuracy")
        within = [o for o in static if o["ms_per_clip"] <= adaptive["ms_per_clip"]]
        rival = max(within, key=lambda o: (o["accuracy"], -o["ms_per_clip"]), default=None)
        rows.append(
            {
                "seed": seed,
                "variant": variant.name,
                "dense_accuracy": dense["accuracy"],
                "dense_ms": dense["ms_per_clip"],
                "adaptive_accuracy": adaptive["accuracy"],
                "adaptive_ms": adaptive["ms_per_clip"],
                "share_of_dense": adaptive["ms_per_clip"] / dense["ms_per_clip"],
                "static_rival": rival and rival["name"],
                "static_accuracy": rival and rival["accuracy"],
                **_always_float(bundle, dense),
                "choices": adaptive["choices"],
            }
        )
    return rows


def _always_float(bundle: Bundle, dense: dict[str, Any]) -> dict[str, float]:
    """fp32 on every frame where it was tried and perhaps dropped: accuracy, and ms in units of ``dense``'s.

    Times of the trial and of the profile are of different minutes: only their ratios are taken over.
    """
    tried: list[Any] = bundle.manifest.accuracy.get("precisions", [])  # type: ignore[assignment]
    known = {f"{one['branch']}-{one['precision']}": one for one in tried}
    floating = next((one for one in tried if one["precision"] == "fp32"), None)
    ours = known.get(dense["name"].partition(" ")[0])
    if floating is None or ours is None:
        return {}
    return {
        "fp32_accuracy": floating["validation"],
        "fp32_ms": dense["ms_per_clip"] * floating["ms"] / ours["ms"],
    }


def _summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and 95 % interval over the seeds, per variant."""
    summary: dict[str, Any] = {}
    for variant in sorted({row["variant"] for row in rows}):
        own = [row for row in rows if row["variant"] == variant]
        measures = {
            "dense accuracy": [r["dense_accuracy"] for r in own],
            "adaptive accuracy": [r["adaptive_accuracy"] for r in own],
            "adaptive - dense": [r["adaptive_accuracy"] - r["dense_accuracy"] for r in own],
            "share of dense compute": [r["share_of_dense"] for r in own],
            "adaptive - static front": [
                r["adaptive_accuracy"] - r["static_accuracy"] for r in own if r["static_accuracy"] is not None
            ],
        }
        if all("fp32_ms" in row for row in own):
            measures |= {
                "always fp32 accuracy": [r["fp32_accuracy"] for r in own],
                "adaptive - always fp32": [r["adaptive_accuracy"] - r["fp32_accuracy"] for r in own],
                "share of always fp32": [r["adaptive_ms"] / r["fp32_ms"] for r in own],
            }
        summary[variant] = {name: _interval(values) for name, values in measures.items() if values}
    return summary


def _interval(values: list[float]) -> str:
    if len(values) < 2:
        return f"{values[0]:.3f} (one seed)"
    half = _STUDENT[len(values)] * stdev(values) / len(values) ** 0.5
    return f"{mean(values):.3f} ± {half:.3f}"


if __name__ == "__main__":
    main()
