"""Fixtures shared by the tests of the runtimes and of the SDK."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtimes.bundle import Bundle
from tests.runtimes.bundles import build_bundle


@pytest.fixture(scope="session", autouse=True)
def isolated_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the user's own cache out of it; subprocesses inherit this too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ADAPTIVE_VIDEO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The small bundle, built once; not to be changed by a test."""
    folder = tmp_path_factory.mktemp("bundle")
    return build_bundle(folder / "tiny.bundle", folder / "scratch")


@pytest.fixture(scope="session")
def stored_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The small bundle with a store, built once; not to be changed by a test."""
    from tests.runtimes.stored_bundles import build_stored_bundle  # takes torch, which few tests need

    folder = tmp_path_factory.mktemp("stored")
    return build_stored_bundle(folder / "stored.bundle", folder / "scratch")


@pytest.fixture
def stored_copy(stored_bundle: Bundle, tmp_path: Path) -> Path:
    """Folder of a copy of it, which a test may change."""
    return Path(shutil.copytree(stored_bundle.folder, tmp_path / "stored.bundle"))
