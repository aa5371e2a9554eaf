"""Budgets along operating points on random simulated devices: kept, used, and how often the point changes.

    python -m benchmarks.simulated_budgets [--devices 300]

Drawn are: idle power, front, budgets (from a little above the cheapest point to a little above the most
expensive), costs that are off by a common factor and each by a quarter, noise, lumps and delay of the meter,
and a load that comes and goes; see ``tests/sdk/budget_trials.py``. Each runs for 330 simulated seconds, in
four spans of constant budget and load; spans that the cheapest point cannot keep are left out. Written to
``benchmarks/results/simulated-budgets.json``.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from benchmarks.record import write
from sdk.power.simulated import Probe
from tests.sdk.budget_trials import Trial

_SETTLED_S = 32.0


class Span(NamedTuple):
    """Of constant budget and load: powers relative to the budget, and changes of point a minute."""

    worst: float
    used: float
    changes: float
    usable: bool
    """Whether the most expensive point would take more than the budget."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=300)
    arguments = parser.parse_args()
    spans = [span for seed in range(arguments.devices) for span in _spans(_drawn(seed))]
    usable = np.array([span.used for span in spans if span.usable])
    changes = np.array([span.changes for span in spans])
    report = {
        "devices": arguments.devices,
        "spans": len(spans),
        "worst 30 s of all": max(span.worst for span in spans),
        "share of spans above 1.05": float(np.mean([span.worst > 1.05 for span in spans])),
        "share used to 95 % where that can be": float(np.mean(usable >= 0.95)),
        "used, median": float(np.median(usable)),
        "changes a minute, median": float(np.median(changes)),
        "changes a minute, 90 %": float(np.percentile(changes, 90)),
    }
    print(report)
    write("simulated-budgets", report)


def _drawn(seed: int) -> Trial:
    random = np.random.default_rng(seed)
    return Trial(
        branches=int(random.integers(2, 6)),
        rate_hz=float(random.choice([2.0, 4.0, 10.0])),
        idle_w=float(random.uniform(0.5, 5.0)),
        dense_share=float(random.uniform(0.5, 3.0)),
        budgets=(float(random.uniform()), float(random.uniform())),
        load=float(random.choice([0.0, random.uniform(0, 0.4)])),
        probe=Probe(
            noise=float(random.uniform(0, 0.05)),
            grain_j=float(random.choice([0.0, 0.001, 0.05])),
            delay_s=float(random.uniform(0, 0.5)),
        ),
        known=bool(random.integers(2)),
        seed=seed,
    )


def _spans(trial: Trial) -> list[Span]:
    result, spans = trial.run(), []
    for since_s, until_s, allowed_w, load_w in trial.spans():
        ways = [step.way for step in result.between(since_s + _SETTLED_S, until_s)]
        changed = sum(one != other for one, other in pairwise(ways))
        spans.append(
            Span(
                result.worst_w(since_s, until_s) / allowed_w,
                result.mean_w(since_s + _SETTLED_S, until_s) / allowed_w,
                60 * changed / (until_s - since_s - _SETTLED_S),
                trial.best_w + load_w > allowed_w,
            )
        )
    return spans


if __name__ == "__main__":
    main()
