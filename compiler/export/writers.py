"""Writing trained networks as the graph files of a target's runtime: a module for each."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from compiler.bundle_plan import Network
from compiler.errors import CompileError
from compiler.export.export_result import Written
from compiler.targets import Target
from runtimes.spec import Store
from runtimes.words import install

_EXTRAS = {"executorch": "executorch", "litert": "ai_edge_litert"}
"""What a runtime's exporter imports; its extra is called as the runtime is."""


def write_graphs(
    networks: Sequence[Network], target: Target, folder: Path, stores: Mapping[str, Store]
) -> Written:
    """Write every network into ``folder`` for a target.

    Raises: CompileError if the runtime's package is missing, or a network is none that it can take.
    """
    require_runtime(target)
    with _hints_unheard():
        writer = import_module(f"compiler.export.{target.runtime}.writer")
        try:
            written: Written = writer.write_graphs(networks, target, folder, stores)
        except NotImplementedError as error:
            fix = "compile for another target, or write the operator's counterpart in compiler/export"
            raise CompileError(f"target {target.name}", f"cannot take a network ({error})", fix) from error
    return written


@contextmanager
def _hints_unheard() -> Iterator[None]:
    """Exporters' packages tell of optional parts that they do not find, and of every layer that they move."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def require_runtime(target: Target) -> None:
    """Raises: CompileError if the package that a target's graphs are written with is not installed."""
    package = _EXTRAS.get(target.runtime)
    if package is None:
        return
    try:
        import_module(package)
    except ImportError as error:
        fix = install("compile", target.runtime)
        raise CompileError(f"target {target.name}", f"needs {package} ({error})", fix) from error
