"""Fixtures that every test may use: where the real data lies, if it is there; and a quiet end."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from runtimes.engines.native_log import end_quietly

REPOSITORY = Path(__file__).resolve().parents[1]


def _data_root() -> Path:
    named = os.environ.get("ADAPTIVE_VIDEO_DATA")
    return Path(named) if named else REPOSITORY.parent / "shared" / "data"


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """``real_data("ucf101_six")``: that folder of the real data; the test is skipped if it is absent."""

    def find(name: str) -> Path:
        folder = _data_root() / name
        if not folder.exists():
            pytest.skip(f"real data: {folder} is absent; set ADAPTIVE_VIDEO_DATA to the folder that has it")
        return folder

    return find


atexit.register(end_quietly)
