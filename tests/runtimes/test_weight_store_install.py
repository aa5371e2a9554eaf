"""Graphs of a store run with codes built on the device, which nothing but their own planes takes part in."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from compiler.export.onnx.exporter import FRAME, export_branch
from runtimes.bundle import Bundle
from runtimes.cache import cache_folder
from runtimes.engines.engine import open_engine
from runtimes.engines.onnx import CPU, session_options
from runtimes.errors import AdaptiveVideoError, BundleError
from runtimes.weight_store_install import installed_graph
from tests.runtimes.stored_bundles import VIEW, WIDTHS, at_bits, frozen_network, pictures


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ADAPTIVE_VIDEO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def installed_files() -> set[Path]:
    return set(cache_folder("installed").rglob("*.*"))


@pytest.mark.parametrize("bits", WIDTHS)
def test_stored_graphs_compute_what_plain_ones_do(stored_bundle: Bundle, bits: int) -> None:
    plain = export_branch(at_bits(frozen_network(), bits), "plain", [VIEW], "uint8")
    session = onnxruntime.InferenceSession(plain.SerializeToString(), session_options(1), providers=[CPU])
    with open_engine(stored_bundle, "cpu") as engine:
        run = engine.graph(f"net-{bits}")
        for picture in pictures():
            wanted = session.run(None, {FRAME: picture})[0]
            np.testing.assert_array_equal(run(frame=picture)["logits"], wanted)


def test_codes_are_built_once(stored_bundle: Bundle, empty_cache: Path) -> None:
    graph = stored_bundle.manifest.graph("net-4")
    path = installed_graph(stored_bundle, graph)
    assert path.is_relative_to(empty_cache)
    assert {file.name for file in path.parent.iterdir()} == {"graph.onnx", "net.codes"}
    written = (path.parent / "net.codes").stat().st_mtime_ns
    assert installed_graph(stored_bundle, graph) == path
    assert (path.parent / "net.codes").stat().st_mtime_ns == written


def test_damaged_codes_are_built_again(stored_bundle: Bundle, empty_cache: Path) -> None:
    graph = stored_bundle.manifest.graph("net-4")
    path = installed_graph(stored_bundle, graph)
    codes = (path.parent / "net.codes").read_bytes()
    for file in ("net.codes", "graph.onnx"):
        (path.parent / file).write_bytes(b"")
        assert installed_graph(stored_bundle, graph) == path
        assert (path.parent / "net.codes").read_bytes() == codes
        assert path.read_bytes() == stored_bundle.path("net-4.onnx").read_bytes()


def test_several_may_build_at_once(stored_bundle: Bundle, empty_cache: Path) -> None:
    graph = stored_bundle.manifest.graph("net-8")
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda _: installed_graph(stored_bundle, graph), range(8)))
    assert len(set(paths)) == 1
    assert [folder.name for folder in cache_folder("installed").iterdir()] == [paths[0].parent.name]
    assert {file.name for file in paths[0].parent.iterdir()} == {"graph.onnx", "net.codes"}


def test_each_width_has_its_own_codes(stored_bundle: Bundle, empty_cache: Path) -> None:
    manifest = stored_bundle.manifest
    folders = {installed_graph(stored_bundle, manifest.graph(f"net-{bits}")).parent for bits in WIDTHS}
    assert len(folders) == len({(folder / "net.codes").read_bytes() for folder in folders}) == len(WIDTHS)


def test_graphs_without_a_store_stay_in_the_bundle(stored_bundle: Bundle) -> None:
    path = installed_graph(stored_bundle, stored_bundle.manifest.graph("policy"))
    assert path == stored_bundle.path("policy.onnx")


def test_the_low_plane_adds_the_8_bit_graph_and_changes_no_other(
    stored_copy: Path, empty_cache: Path, tmp_path: Path
) -> None:
    low = (stored_copy / "net.low").rename(tmp_path / "net.low")
    partial = Bundle.open(stored_copy, partial=True)
    with open_engine(partial, "cpu") as engine:
        narrow = engine.graph("net-4")(frame=pictures()[0])["logits"]
        with pytest.raises(BundleError, match=r"net\.low: is missing, and graph net-8 needs it; fetch it"):
            engine.graph("net-8")
        before = {file: file.stat().st_mtime_ns for file in installed_files()}
        low.rename(stored_copy / "net.low")
        engine.refresh(partial.refresh())
        assert engine.graph("net-8")(frame=pictures()[0])["logits"].shape == narrow.shape
        np.testing.assert_array_equal(engine.graph("net-4")(frame=pictures()[0])["logits"], narrow)
    assert before.items() <= {file: file.stat().st_mtime_ns for file in installed_files()}.items()
    with open_engine(Bundle.open(stored_copy), "cpu") as engine:
        engine.graph("net-4")
    assert len(installed_files()) == len(before) + 2


def test_cache_that_cannot_be_written(stored_bundle: Bundle, empty_cache: Path) -> None:
    empty_cache.write_text("a file, where a folder should be")
    with pytest.raises(AdaptiveVideoError, match="ADAPTIVE_VIDEO_CACHE"):
        installed_graph(stored_bundle, stored_bundle.manifest.graph("net-4"))
