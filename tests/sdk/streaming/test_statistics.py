"""Percentiles in constant memory stay close to the true ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtimes.engines.engine import GraphDeclaration
from sdk.results import Latency, Recognition
from sdk.streaming.statistics import LatencyHistogram, Statistics


@given(
    st.lists(st.floats(1e-3, 1e5), min_size=1, max_size=300),
    st.sampled_from([1.0, 50.0, 95.0, 99.0, 100.0]),
)
def test_percentiles_are_within_two_percent(values: list[float], percent: float) -> None:
    histogram = LatencyHistogram()
    for value in values:
        histogram.record(value)
    truth = float(np.percentile(values, percent, method="inverted_cdf"))
    assert histogram.percentile(percent) == pytest.approx(truth, rel=0.02)


def test_percentiles_of_many_values() -> None:
    values = np.random.default_rng(0).lognormal(1, 1, 20_000)
    histogram = LatencyHistogram()
    for value in values:
        histogram.record(float(value))
    percentiles = histogram.percentiles()
    assert percentiles is not None and percentiles.count == len(values)
    measured = (percentiles.p50, percentiles.p95, percentiles.p99)
    np.testing.assert_allclose(measured, np.percentile(values, [50, 95, 99]), rtol=0.03)


def test_values_out_of_range_count_as_the_nearest() -> None:
    histogram = LatencyHistogram()
    for value in (0.0, 1e9):
        histogram.record(value)
    assert histogram.percentile(50) == pytest.approx(1e-3, rel=0.02)
    assert histogram.percentile(100) == pytest.approx(1e5, rel=0.02)


def test_empty() -> None:
    assert LatencyHistogram().percentiles() is None
    with pytest.raises(ValueError, match="no duration"):
        LatencyHistogram().percentile(50)
    snapshot = Statistics().snapshot()
    assert snapshot.steps == 0 and snapshot.fps is None and snapshot.latency_ms == {}


def test_snapshot_counts_stages_that_ran() -> None:
    statistics = Statistics()
    for choice, branch in (("rgb224", 5.0), ("rgb224", 5.0), ("held", 0.0)):
        latency = Latency(queue=0, decode=1, resize=0, policy=0, branch=branch, post=0.1, total=1.1 + branch)
        statistics.record_result(
            Recognition(0.0, 0, "a", 1.0, (("a", 1.0),), choice, "int8", latency, 0, False)
        )
    declared = GraphDeclaration("net", "int8", {"CPUExecutionProvider": 9}, 1, False, 1.0, None, runs=2)
    snapshot = statistics.snapshot({"stale": 2}, [declared])
    assert snapshot.choices == {"rgb224": 2, "held": 1}
    assert snapshot.latency_ms["branch"].count == 2
    assert "policy" not in snapshot.latency_ms
    assert snapshot.drops == {"stale": 2} and snapshot.graph_runs == {"net": 2}
    assert snapshot.fps is not None and snapshot.fps > 0
    assert snapshot.to_json()["latency_ms"]["decode"]["p50"] == pytest.approx(1, rel=0.02)
