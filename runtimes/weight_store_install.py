"""Graphs of a store, made ready on the device: their int8 weight codes are built once, beside a copy of each.

So a narrower graph needs the high plane alone, and nothing is compiled anew when the low plane comes.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

from runtimes.bundle import Bundle
from runtimes.cache import cache_folder, whole_folder
from runtimes.spec import Graph
from runtimes.weight_store import write_codes

_GRAPH = "graph.onnx"


def installed_graph(bundle: Bundle, graph: Graph) -> Path:
    """File of ``graph`` that a runtime can open: the bundle's own, or an installed one if it has a store.

    Raises: BundleError if a plane that it needs is missing; AdaptiveVideoError if the cache cannot be
    written.
    """
    if graph.store is None or graph.bits is None:
        return bundle.path(graph.file)
    bundle.require(graph.name, graph.target)
    store = bundle.manifest.store(graph.store)
    files = bundle.manifest.files
    parts = [store.model_dump_json(), str(graph.bits)]
    parts += [files[file].sha256 for file in bundle.manifest.files_of(graph)]
    folder = cache_folder("installed") / hashlib.sha256("\n".join(parts).encode()).hexdigest()
    sizes = {_GRAPH: files[graph.file].bytes, store.codes_file: store.codes_bytes}
    before = folder.is_dir()
    if not _whole(folder, sizes):
        if before:  # a folder that has come since is another process's, and whole
            shutil.rmtree(folder, ignore_errors=True)
        with whole_folder(folder) as growing:
            shutil.copyfile(bundle.path(graph.file), growing / _GRAPH)
            write_codes(store, bundle.folder, graph.bits, growing / store.codes_file)
    return folder / _GRAPH


def _whole(folder: Path, sizes: Mapping[str, int]) -> bool:
    """Whether ``folder`` has files of these sizes: after a loss of power they may be there, and empty."""
    paths = {folder / file: size for file, size in sizes.items()}
    return all(path.is_file() and path.stat().st_size == size for path, size in paths.items())
