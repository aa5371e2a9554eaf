"""Fixtures that every test may use: where the real data lies, if it is there; and a quiet end."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

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


def _quiet() -> None:
    """LiteRT's library tells of its end as the process does; the tests' summary is to be the last word."""
    if "ai_edge_litert" in sys.modules:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


atexit.register(_quiet)
