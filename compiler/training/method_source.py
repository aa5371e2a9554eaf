"""What a method's source says, as a digest: results of training are kept for just the code that made them."""

from __future__ import annotations

import ast
import hashlib
import sys
from functools import partial
from pathlib import Path
from typing import Any

import models
from models.contract import Method

_MODELS = Path(models.__file__).parent


def source_digest(method: Method[Any], folder: Path = _MODELS) -> str:
    """SHA-256 of the method's module and of every module below ``folder``; comments and layout do not
    count.
    """
    files = {file.resolve() for file in folder.rglob("*.py")} | _modules_of(method)
    digest = hashlib.sha256()
    for file in sorted(files):
        name = file.relative_to(folder.resolve()) if file.is_relative_to(folder.resolve()) else file.name
        digest.update(f"{name}\n{ast.dump(ast.parse(file.read_bytes()))}\n".encode())
    return digest.hexdigest()


def _modules_of(method: Method[Any]) -> set[Path]:
    """The files that declare a method: it may be one that is not below models/."""
    files = set()
    for declared in (method.architecture, method.plan, method.timing):
        function = declared.func if isinstance(declared, partial) else declared
        module = sys.modules.get(function.__module__)
        if module is not None and module.__file__ is not None:
            files.add(Path(module.__file__).resolve())
    return files
