"""A bundle may lack its low planes if that was asked for, and nothing else; later they may come."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runtimes.bundle import Bundle, write_zip
from runtimes.errors import BundleError

LOW = "net.low"


def spoil(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.fixture
def partial(stored_copy: Path) -> Path:
    (stored_copy / LOW).unlink()
    return stored_copy


def test_whole_bundle(stored_bundle: Bundle) -> None:
    for bundle in (stored_bundle, Bundle.open(stored_bundle.folder, partial=True)):
        assert not bundle.missing
        assert all(bundle.available(graph.name) for graph in bundle.manifest.graphs)
        assert bundle.refresh() is bundle


def test_missing_low_plane_is_an_error_that_tells_both_ways_out(partial: Path) -> None:
    fix = r"net\.low: is missing; fetch it, or open with partial=True .* without 8-bit graphs"
    with pytest.raises(BundleError, match=fix):
        Bundle.open(partial)


def test_partial_bundle_tells_what_can_run(partial: Path) -> None:
    bundle = Bundle.open(partial, partial=True)
    assert bundle.missing == {LOW}
    available = {graph.name: bundle.available(graph.name) for graph in bundle.manifest.graphs}
    assert available == {"policy": True, "net-8": False, "net-4": True, "net-2": True}
    with pytest.raises(KeyError):
        bundle.available("net-16")
    assert bundle.refresh() is bundle


def test_refresh_finds_the_plane(stored_bundle: Bundle, partial: Path) -> None:
    bundle = Bundle.open(partial, partial=True)
    (partial / LOW).write_bytes((stored_bundle.folder / LOW).read_bytes())
    fresh = bundle.refresh()
    assert not fresh.missing and fresh.available("net-8")
    assert not bundle.available("net-8")


def test_altered_plane_is_an_error_however_it_comes(
    stored_bundle: Bundle, stored_copy: Path, partial: Path
) -> None:
    bundle = Bundle.open(partial, partial=True)
    plane = (stored_bundle.folder / LOW).read_bytes()
    (partial / LOW).write_bytes(plane[:-1])
    with pytest.raises(BundleError, match=r"net\.low: is \d+ bytes where the manifest says"):
        bundle.refresh()
    (partial / LOW).write_bytes(plane)
    spoil(partial / LOW)
    for attempt in (bundle.refresh, lambda: Bundle.open(partial, partial=True), lambda: Bundle.open(partial)):
        with pytest.raises(BundleError, match=r"net\.low: SHA-256 differs"):
            attempt()


@pytest.mark.parametrize("file", ["net.high", "net-4.onnx", "net-8.onnx", "policy.onnx"])
def test_no_other_file_may_be_missing_or_altered(partial: Path, file: str) -> None:
    spoil(partial / file)
    with pytest.raises(BundleError, match=f"{file}: SHA-256 differs"):
        Bundle.open(partial, partial=True)
    (partial / file).unlink()
    with pytest.raises(BundleError, match=f"{file}: is missing; compile again"):
        Bundle.open(partial, partial=True)


def test_dangling_link_is_no_missing_plane(partial: Path) -> None:
    (partial / LOW).symlink_to(partial / "nowhere")
    with pytest.raises(BundleError, match=r"net\.low: is missing; compile again"):
        Bundle.open(partial, partial=True)


def test_another_bundle_in_its_place_is_refused(stored_bundle: Bundle, partial: Path) -> None:
    bundle = Bundle.open(partial, partial=True)
    (partial / LOW).write_bytes((stored_bundle.folder / LOW).read_bytes())
    manifest = json.loads((partial / "manifest.json").read_text())
    (partial / "manifest.json").write_text(json.dumps(manifest | {"model": "other"}))
    with pytest.raises(BundleError, match="is another bundle than was opened"):
        bundle.refresh()


def test_partial_zip(stored_bundle: Bundle, partial: Path, tmp_path: Path) -> None:
    path = write_zip(Bundle.open(partial, partial=True), tmp_path / "net.zip")
    bundle = Bundle.open(path, partial=True)
    assert bundle.missing == {LOW}
    with pytest.raises(BundleError, match=r"net\.low: is missing; fetch it"):
        Bundle.open(path)
    assert bundle.path("net-4.onnx").is_file()
    write_zip(stored_bundle, path)
    assert not bundle.refresh().missing


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "give both store and bits": lambda fields: fields["graphs"][1].pop("bits"),
    "names the unknown store other": lambda fields: fields["graphs"][1].update(store="other"),
    "names of stores repeat": lambda fields: fields["stores"].append(fields["stores"][0]),
    "names of tensors repeat": lambda fields: fields["stores"][0]["tensors"].append(
        fields["stores"][0]["tensors"][0]
    ),
    "net.high must have": lambda fields: fields["stores"][0]["tensors"].pop(3),
    "cannot be both planes": lambda fields: fields["stores"][0].update(low="net.high"),
    "nosuch.low is not listed": lambda fields: fields["stores"][0].update(low="nosuch.low"),
    "stores.0.tensors.0.shape": lambda fields: fields["stores"][0]["tensors"][0].update(shape=[0]),
    "graphs.1.bits": lambda fields: fields["graphs"][1].update(bits=3),
}


@pytest.mark.parametrize("complaint", CHANGES)
def test_manifest_whose_stores_do_not_fit(stored_copy: Path, complaint: str) -> None:
    fields = json.loads((stored_copy / "manifest.json").read_text())
    CHANGES[complaint](fields)
    (stored_copy / "manifest.json").write_text(json.dumps(fields))
    with pytest.raises(BundleError, match=complaint):
        Bundle.open(stored_copy)
