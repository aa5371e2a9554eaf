"""A bundle opens only when whole, and is written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtimes.bundle import Bundle, write_bundle, write_zip
from runtimes.errors import BundleError, NotABundleError
from runtimes.spec import OLDEST_SCHEMA
from tests.runtimes.bundles import cost_table, manifest_fields


@pytest.fixture
def copy(bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle.folder, tmp_path / "copy.bundle"))


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "manifest.json"
    fields = json.loads(path.read_text())
    change(fields)
    path.write_text(json.dumps(fields))


def test_round_trip(bundle: Bundle) -> None:
    opened = Bundle.open(str(bundle.folder))
    assert opened.manifest == bundle.manifest
    assert opened.path("policy.onnx").is_file()
    assert {"policy.onnx", "net-fp32.onnx", "net-fp32.data", "net-int8.onnx"} == set(opened.manifest.files)
    assert stat.S_IMODE(opened.folder.stat().st_mode) & 0o755 == 0o755


def test_missing_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="does not exist"):
        Bundle.open(tmp_path / "none.bundle")


def test_folder_without_manifest(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"has no manifest\.json"):
        Bundle.open(tmp_path)


def test_truncated_manifest(copy: Path) -> None:
    path = copy / "manifest.json"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BundleError, match="not valid JSON"):
        Bundle.open(copy)


@pytest.mark.parametrize("text", ["[]", "3", '"manifest"'])
def test_manifest_that_is_no_object(copy: Path, text: str) -> None:
    (copy / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match="not a JSON object"):
        Bundle.open(copy)


def test_older_schema(copy: Path) -> None:
    edit_manifest(copy, lambda fields: fields.update(schema_version=OLDEST_SCHEMA - 1))
    with pytest.raises(BundleError, match=r"schema \d+, and the oldest read here is \d+; compile again"):
        Bundle.open(copy)


def test_newer_schema(copy: Path) -> None:
    edit_manifest(copy, lambda fields: fields.update(schema_version=9, surprise=1))
    with pytest.raises(BundleError, match=r"schema 9.*newest known here is \d+.*upgrade"):
        Bundle.open(copy)


def test_unknown_field_is_named(copy: Path) -> None:
    edit_manifest(copy, lambda fields: fields["fusion"].update(surprise=1))
    with pytest.raises(BundleError, match=r"fusion\.surprise"):
        Bundle.open(copy)


def test_flipped_byte(copy: Path) -> None:
    path = copy / "net-fp32.data"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"net-fp32\.data: SHA-256 differs"):
        Bundle.open(copy)


def test_truncated_file(copy: Path) -> None:
    path = copy / "net-int8.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BundleError, match=r"net-int8\.onnx: is \d+ bytes where"):
        Bundle.open(copy)


def test_missing_file(copy: Path) -> None:
    (copy / "policy.onnx").unlink()
    with pytest.raises(BundleError, match=r"policy\.onnx: is missing"):
        Bundle.open(copy)


@pytest.mark.parametrize("file", ["../outside", "/etc/passwd", "a/../../b", "..\\outside", "C:\\x", ""])
def test_path_that_leaves_the_bundle(copy: Path, file: str) -> None:
    record = {"bytes": 1, "sha256": "0" * 64}
    edit_manifest(copy, lambda fields: fields["files"].update({file: record}))
    with pytest.raises(BundleError, match="leaves the bundle"):
        Bundle.open(copy)


def test_link_that_leaves_the_bundle(copy: Path, tmp_path: Path) -> None:
    (copy / "policy.onnx").rename(tmp_path / "policy.onnx")
    (copy / "policy.onnx").symlink_to(tmp_path / "policy.onnx")
    with pytest.raises(BundleError, match="link that leaves"):
        Bundle.open(copy)


def test_file_that_is_not_listed(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="not listed"):
        bundle.path("manifest.json")


def test_zip_opens_like_its_folder(bundle: Bundle, tmp_path: Path) -> None:
    packed = write_zip(bundle, tmp_path / "tiny.zip")
    first, second = Bundle.open(packed), Bundle.open(packed)
    assert first.manifest == bundle.manifest
    assert first.folder == second.folder
    assert first.location == packed


def test_zip_with_a_folder_around(bundle: Bundle, tmp_path: Path) -> None:
    packed = shutil.make_archive(str(tmp_path / "outer"), "zip", bundle.folder.parent, bundle.folder.name)
    assert Bundle.open(packed).manifest == bundle.manifest


def test_damaged_cache_of_a_zip_is_unpacked_again(bundle: Bundle, tmp_path: Path) -> None:
    packed = write_zip(bundle, tmp_path / "tiny.zip")
    (Bundle.open(packed).folder / "policy.onnx").unlink()
    assert Bundle.open(packed).path("policy.onnx").is_file()


def test_zip_slip(bundle: Bundle, tmp_path: Path) -> None:
    packed = write_zip(bundle, tmp_path / "slip.zip")
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("../../escaped.txt", "x")
    with pytest.raises(BundleError, match="leaves the bundle"):
        Bundle.open(packed)
    assert not list(tmp_path.rglob("escaped.txt"))


def test_zip_that_lacks_a_file(bundle: Bundle, tmp_path: Path) -> None:
    packed = tmp_path / "short.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(bundle.folder / "manifest.json", "manifest.json")
    with pytest.raises(BundleError, match="is missing"):
        Bundle.open(packed)


def test_file_that_is_no_zip(tmp_path: Path) -> None:
    path = tmp_path / "noise.bundle"
    path.write_bytes(b"no" + os.urandom(1000))
    with pytest.raises(
        NotABundleError, match="is not a bundle: it is no folder and no zip; name the folder or zip"
    ):
        Bundle.open(path)


def test_a_zip_of_something_else(tmp_path: Path) -> None:
    np.savez(tmp_path / "weights.npz", weight=np.zeros(3))
    with pytest.raises(NotABundleError, match=r"weights\.npz: is not a bundle: it has no manifest\.json"):
        Bundle.open(tmp_path / "weights.npz")


def test_truncated_zip(bundle: Bundle, tmp_path: Path) -> None:
    packed = write_zip(bundle, tmp_path / "cut.zip")
    packed.write_bytes(packed.read_bytes()[:-5000])
    with pytest.raises(BundleError, match="is not a whole zip"):
        Bundle.open(packed)


def test_writing_replaces_a_bundle_whole(copy: Path, bundle: Bundle, tmp_path: Path) -> None:
    (copy / "stale.txt").write_text("old")
    files = tmp_path / "files"
    shutil.copytree(bundle.folder, files)
    written = write_bundle(copy, files, manifest_fields() | {"preset": "second"})
    assert Bundle.open(copy).manifest.preset == written.manifest.preset == "second"
    assert not (copy / "stale.txt").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy.bundle", "files"]


def test_writing_leaves_other_folders_alone(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("years")
    with pytest.raises(BundleError, match="is not a bundle"):
        write_bundle(tmp_path / "precious", bundle.folder, manifest_fields())
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "years"


def test_failed_writing_leaves_the_old_bundle(copy: Path, bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="default variant"):
        write_bundle(copy, bundle.folder, manifest_fields() | {"default_variant": "fp64"})
    assert Bundle.open(copy).manifest == bundle.manifest
    assert [path.name for path in tmp_path.iterdir()] == ["copy.bundle"]


def test_device_costs_come_before_the_manifest(copy: Path) -> None:
    opened = Bundle.open(copy)
    here = cost_table("this board", scale=2)
    assert opened.costs("this board", "CPUExecutionProvider") == cost_table()
    saved = opened.save_device_costs(here)
    assert saved == copy.parent / "copy.bundle.cost.json"
    assert opened.costs("this board", "CPUExecutionProvider") == here
    assert opened.costs("another board", "CPUExecutionProvider") == cost_table()
    opened.save_device_costs(cost_table("this board", scale=3))
    assert opened.device_costs() == (cost_table("this board", scale=3),)


def test_damaged_device_costs(copy: Path) -> None:
    opened = Bundle.open(copy)
    opened.device_costs_path.write_text("{")
    with pytest.raises(BundleError, match=r"cost\.json.*adaptive-bench"):
        opened.device_costs()
