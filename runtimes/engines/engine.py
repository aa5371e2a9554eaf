"""The interface of every engine: named graphs that run on numpy arrays, and a declaration of what really
ran.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from types import TracebackType
from typing import Literal, NamedTuple, Protocol, Self, get_args

import numpy as np
from numpy.typing import NDArray

from runtimes.bundle import Bundle
from runtimes.errors import EngineError
from runtimes.spec import Runtime

Array = NDArray[np.generic]
Device = Literal["auto", "cpu", "cuda", "tensorrt", "gpu"]
"""``cuda`` and ``tensorrt`` are ONNX Runtime's; ``gpu`` is a phone's, by Vulkan or LiteRT's accelerator."""


@dataclass(frozen=True, slots=True)
class GraphDeclaration:
    """What one opened graph really runs on.

    ``nodes`` counts its nodes by the provider that runs them (0 where this version of the runtime does not
    tell how many); ``fallback`` says that the accelerator asked for runs none of them. ``opened_mb`` is the
    memory its opening took (MB; None where not measured).
    """

    graph: str
    precision: str
    nodes: dict[str, int]
    threads: int
    fallback: bool
    opened_ms: float
    opened_mb: float | None
    runs: int

    @property
    def provider(self) -> str:
        """The provider that runs most of the graph."""
        return max(self.nodes, key=lambda name: self.nodes[name])


class GraphRunner(Protocol):
    """One opened graph."""

    def __call__(self, **inputs: Array) -> dict[str, Array]:
        """Run on the manifest's named inputs and return its named outputs. Raises: EngineError."""
        ...


class Engine(Protocol):
    """A bundle's graphs on one device; a context manager. Graphs are opened when first asked for."""

    def graph(self, name: str) -> GraphRunner:
        """The graph called ``name``. Raises: EngineError if it is unknown or does not open as asked."""
        ...

    @property
    def declared(self) -> tuple[GraphDeclaration, ...]:
        """What each graph opened so far really runs on, in the order of opening."""
        ...

    @property
    def provider(self) -> str:
        """What graphs run on, e.g. CPUExecutionProvider; after a fallback, what they fell back to."""
        ...

    @property
    def threads(self) -> int:
        """Threads that a branch runs on."""
        ...

    def refresh(self, bundle: Bundle) -> None:
        """Open graphs from here on from ``bundle``: the same one, with files that have come since."""
        ...

    def close(self) -> None:
        """Free every graph; the engine runs nothing after this."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_engine(
    bundle: Bundle,
    device: str = "auto",
    *,
    target: str | None = None,
    allow_fallback: bool = False,
    threads: int | None = None,
) -> Engine:
    """Open the engine for a bundle's graphs of ``target`` (the bundle's own by default) on ``device``.

    ``auto`` takes the best that this machine has; the declaration says what ran. ``threads`` are those of a
    branch, by default one per physical core.

    Raises: BundleError if the bundle has no graphs for the target; EngineError if the target's runtime is
    not installed, or the device is unknown, or missing while ``allow_fallback`` is off.
    """
    if device not in get_args(Device):
        raise EngineError(f"device {device}", "is unknown", f"use one of {', '.join(get_args(Device))}")
    is_count = isinstance(threads, int) and not isinstance(threads, bool)
    if threads is not None and (not is_count or threads < 1):
        raise EngineError(f"threads {threads!r}", "is not a number of threads", "use 1 or more")
    bundle.require_target(target)
    wanted = target or bundle.manifest.target
    engine = _ENGINES[bundle.manifest.runtime(target)]
    # A runtime takes 0.1 s to import, which a program that only reads a bundle need not wait for.
    make = getattr(import_module(engine.module), engine.name)
    opened: Engine = make(bundle, device, target=wanted, allow_fallback=allow_fallback, threads=threads)
    return opened


class _EngineClass(NamedTuple):
    """Where an engine's class is."""

    module: str
    name: str


_ENGINES: dict[Runtime, _EngineClass] = {
    "onnx": _EngineClass("runtimes.engines.onnx", "OnnxEngine"),
    "executorch": _EngineClass("runtimes.engines.executorch", "ExecutorchEngine"),
    "litert": _EngineClass("runtimes.engines.litert", "LitertEngine"),
}
