"""What the operating points of bundles come to on validation clips: ahead of schedules, level or behind.

    python -m benchmarks.operating_points [--model arnet] [--data DIR --preset mobile --init WEIGHTS]
                                          [--seeds 3] [--folds N] [--bundles build/points]

Compiles once per seed (a bundle that is there already is read as it is). Written to
``benchmarks/results/operating-points-<model>-<data>-<preset>.json``: for each seed and variant the
difference to schedules over all budgets, what is right at shares of the dense cost, and the controls.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.record import write
from compiler.cli.stage_console import StageConsole
from compiler.pipeline import compile_bundle
from compiler.request import DataRequest, ModelRequest, Request, TrainingRequest
from compiler.targets import find_targets
from runtimes.bundle import Bundle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="arnet")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--init", type=Path)
    parser.add_argument("--preset", default="tiny")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folds", type=int)
    parser.add_argument("--bundles", type=Path, default=Path("build/points"))
    arguments = parser.parse_args()
    data = arguments.data.name if arguments.data else "built-in"
    name = f"{arguments.model}-{data}-{arguments.preset}"
    rows = [row for seed in range(arguments.seeds) for row in _rows(arguments, name, seed)]
    for row in rows:
        shares = ((float(share), right) for share, right in row["bought"].items() if right is not None)
        bought = ", ".join(f"{share:.0%}: {right:.1%}" for share, right in shares)
        low, high = row["difference"][1:]
        print(f"seed {row['seed']} {row['variant']}: {row['verdict']} ({low:+.1%} to {high:+.1%}); {bought}")
    print(write(f"operating-points-{name}", {"clips": rows[0]["clips"], "rows": rows}))


def _rows(arguments: argparse.Namespace, name: str, seed: int) -> list[dict[str, Any]]:
    out = arguments.bundles / f"{name}-seed{seed}.bundle"
    bundle = Bundle.open(out) if out.exists() else _compiled(arguments, out, seed)
    evaluated: Any = bundle.manifest.accuracy["operating_points"]
    return [_row(bundle, one, seed) for one in evaluated]


def _compiled(arguments: argparse.Namespace, out: Path, seed: int) -> Bundle:
    request = Request(
        ModelRequest(arguments.model, arguments.preset, arguments.init),
        find_targets("cpu"),
        out,
        DataRequest(arguments.data),
        training=TrainingRequest(seed=seed, folds=arguments.folds, resume=True),
    )
    return compile_bundle(request, StageConsole())


def _row(bundle: Bundle, evaluated: dict[str, Any], seed: int) -> dict[str, Any]:
    front = bundle.manifest.front(evaluated["variant"])
    assert front is not None
    dense, oracle, random = evaluated["points"][-3:]
    return {
        "seed": seed,
        "variant": evaluated["variant"],
        "clips": evaluated["clips"],
        "judged_on": front.judged_on,
        "verdict": evaluated["verdict"],
        "difference": evaluated["difference"],
        "dense": dense,
        "points": evaluated["points"][:-3],
        "bought": evaluated["bought"],
        "oracle_stop": oracle,
        "random_stop": random,
        "kinds": {
            kind: sum(p.kind == kind for p in front.points) for kind in ("schedule", "stopping", "learned")
        },
        "optimism": front.optimism,
    }


if __name__ == "__main__":
    main()
