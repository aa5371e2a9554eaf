"""The price: what sets it, what is told of it, and what is none."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from runtimes.bundle import Bundle, write_bundle
from runtimes.device import device_name
from runtimes.engines.engine import Array
from runtimes.engines.onnx import OnnxRunner
from runtimes.errors import AdaptiveVideoError, BundleError
from sdk.recognizer import StreamRecognizer
from tests.runtimes.bundles import cost_table, manifest_fields
from tests.sdk.films import BRIGHT, film


def test_price_may_change_while_a_stream_runs(bundle: Bundle) -> None:
    with StreamRecognizer(bundle, "cpu") as recognizer:
        stream = recognizer.stream(film([BRIGHT] * 8))
        assert [next(stream).choice for _ in range(2)] == ["rgb224", "rgb224"]
        recognizer.price = 50.0
        assert [next(stream).choice for _ in range(2)] == ["skip4", "held"]
        stream.close()
    with StreamRecognizer(bundle, "cpu", price=50.0) as recognizer:
        assert next(recognizer.stream(film([BRIGHT]))).choice == "head"


def test_the_policy_is_told_the_price(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[float] = []
    run = OnnxRunner.__call__

    def listening(runner: OnnxRunner, **inputs: Array) -> dict[str, Array]:
        told.extend(np.ravel(inputs["price"]).tolist() if "price" in inputs else [])
        return run(runner, **inputs)

    monkeypatch.setattr(OnnxRunner, "__call__", listening)
    with StreamRecognizer(bundle, "cpu", price=0.5) as recognizer:
        results = []
        for number, result in enumerate(recognizer.stream(film([BRIGHT] * 4))):
            results.append(result)
            recognizer.price = 0.25 * number
    assert told == [result.price for result in results] == [0.5, 0.0, 0.25, 0.5]


def test_the_compiled_price_holds_on_every_device(bundle: Bundle, tmp_path: Path) -> None:
    """It is relative to the most expensive option: where everything costs twice as much, nothing changes."""
    shutil.copytree(bundle.folder, tmp_path / "files")
    fields = manifest_fields()
    variants = tuple(variant.model_copy(update={"price": 0.5}) for variant in fields["variants"])
    priced = write_bundle(tmp_path / "priced.bundle", tmp_path / "files", fields | {"variants": variants})
    with StreamRecognizer(priced, "cpu") as recognizer:
        assert recognizer.price == 0.5
    priced.save_device_costs(cost_table(device_name(), scale=2.0))
    with StreamRecognizer(priced, "cpu") as recognizer:
        assert recognizer.price == 0.5


@pytest.mark.parametrize("price", [-1.0, float("nan"), float("inf"), 1.1e4, 1e300])
def test_prices_that_are_none(bundle: Bundle, price: float) -> None:
    with pytest.raises(AdaptiveVideoError, match="not a price"):
        StreamRecognizer(bundle, "cpu", price=price)
    with (
        StreamRecognizer(bundle, "cpu") as recognizer,
        pytest.raises(AdaptiveVideoError, match="not a price"),
    ):
        recognizer.price = price


def test_price_needs_costs(bundle: Bundle, tmp_path: Path) -> None:
    shutil.copytree(bundle.folder, tmp_path / "files")
    bare = write_bundle(tmp_path / "bare.bundle", tmp_path / "files", manifest_fields() | {"cost_tables": ()})
    with StreamRecognizer(bare, "cpu") as recognizer:
        assert next(recognizer.stream(film([BRIGHT]))).choice == "rgb224"
        with pytest.raises(BundleError, match="adaptive-bench"):
            recognizer.price = 1.0
