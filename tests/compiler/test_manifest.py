"""What a manifest says of where its bundle comes from."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from compiler.data.cache import ClipCache
from compiler.manifest import provenance
from compiler.request import ModelRequest, Request
from compiler.targets import TARGETS
from models.methods import arnet
from tests.compiler.small_training import small_training


def test_credentials_are_never_packed(
    cache: ClipCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["adaptive-compile", "--data", "https://joe:hunter2@host/clips"])
    request = Request(ModelRequest("arnet", "tiny"), (TARGETS["cpu"],), tmp_path / "x.bundle")
    says = provenance(request, small_training(cache, tmp_path), arnet.PRESETS["tiny"].recipe)
    assert says["command"] == "adaptive-compile --data https://***@host/clips"
