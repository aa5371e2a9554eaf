"""A bundle's energies as adaptive-bench measures them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from runtimes.bundle import Bundle
from sdk.benchmark.bench import bench
from sdk.decisions.option_costs import option_costs, run_costs, run_energies
from sdk.power import ModeledMeter, dynamic


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
