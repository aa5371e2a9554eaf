"""An edit of a method's source, or of anything below models/, is another training."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

import models
from compiler import pipeline
from compiler.data.cache import ClipCache
from compiler.pipeline import _run_key
from compiler.request import ModelRequest, Request
from compiler.targets import TARGETS
from compiler.training.method_source import source_digest
from models.methods import arnet


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    return Path(shutil.copytree(Path(models.__file__).parent, tmp_path / "models"))


@pytest.mark.parametrize("name", ["methods/arnet.py", "losses.py", "backbones/resnet.py"])
def test_an_edit_changes_the_digest_and_a_comment_does_not(copied: Path, name: str) -> None:
    before, file = source_digest(arnet.METHOD, copied), copied / name
    text = file.read_text()
    file.write_text(f"# of no consequence\n\n{text}")
    assert source_digest(arnet.METHOD, copied) == before
    file.write_text(f"{text}\nCHANGED = 1\n")
    assert source_digest(arnet.METHOD, copied) != before


def test_a_method_of_another_package_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "papers_method.py"
    file.write_text("def plan(preset):\n    return 1\n")
    spec = spec_from_file_location("papers_method", file)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "papers_method", module)
    spec.loader.exec_module(module)
    method = replace(arnet.METHOD, plan=module.plan)
    before = source_digest(method)
    file.write_text("def plan(preset):\n    return 2\n")
    assert source_digest(method) != before != source_digest(arnet.METHOD)


def test_the_key_of_a_run_goes_by_it(
    cache: ClipCache, copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request(ModelRequest("arnet", "tiny"), (TARGETS["cpu"],), tmp_path / "x.bundle")
    monkeypatch.setattr(pipeline, "source_digest", lambda method: source_digest(method, copied))
    keys = [_run_key(request, arnet.PRESETS["tiny"], cache)]
    (copied / "losses.py").write_text("changed = True\n")
    keys.append(_run_key(request, arnet.PRESETS["tiny"], cache))
    assert keys[0] != keys[1]
