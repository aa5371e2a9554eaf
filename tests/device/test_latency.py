"""Latency on the device itself: ``ADAPTIVE_BUNDLE=actions.bundle pytest -m device tests/device``.

``ADAPTIVE_MAX_P95_MS`` sets the limit of every graph and of the pipeline; the default is a step's time.
"""

from __future__ import annotations

import os

import pytest

from runtimes.bundle import Bundle
from sdk.benchmark.bench import BenchReport, bench

pytestmark = pytest.mark.device


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    path = os.environ.get("ADAPTIVE_BUNDLE")
    if not path:
        pytest.skip("set ADAPTIVE_BUNDLE to the bundle to measure")
    return Bundle.open(path)


@pytest.fixture(scope="module")
def report(bundle: Bundle) -> BenchReport:
    return bench(bundle.location)


def test_every_row_is_below_the_limit(bundle: Bundle, report: BenchReport) -> None:
    limit_ms = float(os.environ.get("ADAPTIVE_MAX_P95_MS", 1e3 / bundle.manifest.steps.rate_hz))
    assert report.exceeding(limit_ms) == []


def test_python_adds_little(report: BenchReport) -> None:
    spent = report.pipeline.adaptive.latency_ms
    assert spent["post"].p50 <= max(0.1, 0.03 * spent["total"].p50)


def test_adaptive_is_faster_than_dense(report: BenchReport) -> None:
    assert report.pipeline.speed_up > 1
