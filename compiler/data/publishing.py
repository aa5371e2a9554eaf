"""Folders that appear whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from errno import EDQUOT, ENOSPC
from pathlib import Path

from compiler.errors import DataError


@contextmanager
def published(folder: Path, marker: str) -> Iterator[Path]:
    """A draft folder that becomes ``folder`` if all goes well, and is removed if not.

    ``marker``: the file, written by the caller, whose presence makes a folder complete.

    Raises: DataError if the disk is full or cannot be written to.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            yield draft
            _rename(draft, folder, marker)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        if error.errno in (ENOSPC, EDQUOT):
            fix = "free some space, or choose a folder on another disk"
            raise DataError(folder.parent, "the disk is full", fix) from error
        reason = f"cannot be written: {(error.strerror or 'unknown reason').lower()}"
        raise DataError(folder.parent, reason, "choose another folder") from error


def _rename(draft: Path, folder: Path, marker: str) -> None:
    try:
        draft.rename(folder)
    except OSError:
        # Another process may have published the same content meanwhile; it is as good as this one.
        if not (folder / marker).is_file():
            raise
