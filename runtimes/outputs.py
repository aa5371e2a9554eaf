"""Files that a user asks for: whether they can be written is known before any is touched."""

from __future__ import annotations

import os
from pathlib import Path

from runtimes.bundle import MANIFEST
from runtimes.errors import OutputError


def require_writable(path: str | os.PathLike[str], example: str) -> None:
    """Change nothing, and tell whether a file can be written at ``path``; ``example``: a name that is fine.

    Raises: OutputError if it is a folder, lies in a folder that is missing or may not be written to, or
    inside a bundle, whose files are fixed.
    """
    path = Path(path)
    fix = f"name a file like {example} in a folder that exists"
    if path.is_dir():
        raise OutputError(path, "cannot be written: it is a folder", fix)
    if not path.parent.is_dir():
        raise OutputError(path, f"cannot be written: there is no folder {path.parent}", fix)
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise OutputError(path, "cannot be written: there is no permission", "name another place")
    bundle = _bundle_around(path)
    if bundle is not None:
        raise OutputError(path, f"lies inside the bundle {bundle}", "name a file outside it")


def _bundle_around(path: Path) -> Path | None:
    """The bundle's folder that a file would lie in, if any."""
    for folder in path.resolve().parents:
        manifest = folder / MANIFEST
        try:
            if manifest.is_file() and b'"schema_version"' in manifest.read_bytes():
                return folder
        except OSError:  # not ours to look into
            return None
    return None
