"""A bundle's energies as adaptive-bench measures them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from runtimes.bundle import Bundle
from runtimes.errors import BundleError
from sdk.benchmark.bench import PipelineReport, _spread, bench
from sdk.benchmark.comparison import compare_targets
from sdk.cli.bench import _faster
from sdk.decisions.option_costs import option_costs, run_costs, run_energies
from sdk.power import ModeledMeter, dynamic
from sdk.streaming.statistics import Statistics


def test_energies_of_graphs_views_and_the_whole_source(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(dynamic, "_SPAN_S", 0.03)
    source = "test://?size=320x240&rate=10&duration=2&live=0"
    report = bench(bundle.folder, "cpu", source=source, runs=3, meter=ModeledMeter(2.0, 5.0), minutes=0.002)
    costs = report.costs
    assert costs.energy_source == "modeled: 2 W idle, 5 W more while busy"
    assert costs.idle_w == pytest.approx(2.0, rel=0.05)
    rows = [*costs.graphs, *costs.views]
    assert all(row.energy_mj is not None and row.energy_mj > 0 for row in rows)
    variant = bundle.variant(None)
    energies, times = run_energies(variant, costs), run_costs(variant, costs)
    assert energies is not None and option_costs(variant, costs)[-1] == -3 * energies[0]
    assert np.corrcoef(energies, times)[0, 1] > 0.9, "by the model energy is 5 W x time"
    assert report.pipeline.adaptive_mj is not None and report.pipeline.dense_mj is not None
    assert len(report.sustained) == 1 and report.sustained[0].power_w is not None
    assert json.loads(json.dumps(report.to_json()))["sustained"][0]["number"] == 1


@pytest.mark.parametrize(
    ("chosen", "adaptive_ms", "spread", "said"),
    [
        ("adaptive", 5.0, 0.1, "x2.00 ± 0.10"),
        ("adaptive", 9.9, 0.1, "no difference within ± 0.10"),
        ("adaptive", 20.0, 0.6, "no difference within ± 0.60"),
        ("adaptive", 20.0, None, "no difference"),
        ("always rgb224", 20.0, 0.1, "no difference within ± 0.10"),
    ],
)
def test_a_speed_up_is_said_where_it_is_more_than_chance(
    chosen: str, adaptive_ms: float, spread: float | None, said: str
) -> None:
    none = Statistics().snapshot()
    report = PipelineReport("int8", chosen, "rgb224", none, none, adaptive_ms, 10.0, spread)
    assert _faster(report) == said


def test_one_slow_step_is_no_speed_up() -> None:
    same, slow = [10.0] * 20, [10.0] * 19 + [2000.0]
    spread = _spread(slow, same)
    assert spread is not None and abs(np.mean(same) / np.mean(slow) - 1) < spread
    assert _spread([1.0], [2.0]) is None


def test_only_whole_bundles_are_measured(stored_copy: Path) -> None:
    (stored_copy / "net.low").unlink()
    for measure in (bench, compare_targets):
        with pytest.raises(BundleError, match=r"net.low: is missing; fetch it, and measure again"):
            measure(stored_copy, "cpu", source="test://?duration=1&live=0")
