"""The per-user cache, and folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtimes.errors import OutputError


def cache_folder(kind: str) -> Path:
    """Folder for one ``kind`` of cached files, below ``$ADAPTIVE_VIDEO_CACHE`` or the user's own cache."""
    chosen = os.environ.get("ADAPTIVE_VIDEO_CACHE")
    if chosen:
        return Path(chosen) / kind
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "adaptive-video" / kind


@contextmanager
def whole_folder(destination: Path) -> Iterator[Path]:
    """Yield an empty sibling of ``destination`` that takes its name when the block ends well.

    If another process was first, its folder stays and this one is dropped: both hold the same.

    Raises: AdaptiveVideoError if the cache cannot be written.
    """
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        growing = Path(tempfile.mkdtemp(prefix=f".{destination.name}.", dir=destination.parent))
    except OSError as error:
        fix = "set ADAPTIVE_VIDEO_CACHE to a folder that can be"
        reason = f"cannot be written: {(error.strerror or 'unknown reason').lower()}"
        raise OutputError(destination.parent, reason, fix) from error
    try:
        yield growing
        try:
            growing.rename(destination)
        except OSError:
            if not destination.is_dir():
                raise
    finally:
        shutil.rmtree(growing, ignore_errors=True)
