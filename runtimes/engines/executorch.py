"""The ExecuTorch engine: one mapped program per file, its methods loaded when they are first asked for.

The package takes and gives torch tensors, so that torch is imported here, when an engine is opened.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from runtimes.bundle import Bundle
from runtimes.device import physical_cores
from runtimes.engines.base import OpenedGraph, OpenedGraphs, closed, one_line, opened
from runtimes.engines.engine import Array, GraphDeclaration
from runtimes.engines.native_log import native_log
from runtimes.engines.pte import delegates
from runtimes.errors import EngineError
from runtimes.spec import Graph, Manifest, Tensor
from runtimes.words import install

XNNPACK = "XnnpackBackend"
VULKAN = "VulkanBackend"
PORTABLE = "PortableKernels"
"""What runs a method that no backend takes any part of."""

_DEVICES = ("auto", "cpu", "gpu")
_COMPILE_AGAIN = "copy the bundle whole, or compile again for this machine's executorch, or upgrade that"


class ExecutorchEngine(OpenedGraphs["ExecutorchRunner"]):
    """Runs the graphs of one ``target`` of a bundle with ExecuTorch.

    Backends are chosen when a program is compiled: ``gpu`` asks that each graph's is Vulkan, ``cpu`` that it
    is not, ``auto`` takes what there is. The library has one pool of threads for the whole process, policies
    included, and cannot resize it while any method is loaded: see ``threads``.
    """

    def __init__(
        self,
        bundle: Bundle,
        device: str = "auto",
        *,
        target: str,
        allow_fallback: bool = False,
        threads: int | None = None,
    ) -> None:
        """``threads``: of the pool; by default one per physical core, or as many as it has in use.

        Raises: EngineError if the package, the target or the accelerator is missing, a program is damaged,
        or other engines use a pool of another size.
        """
        if device not in _DEVICES:
            raise EngineError(f"device {device}", "is unknown", f"use one of {', '.join(_DEVICES)}")
        super().__init__(bundle, target)
        self._library = _library()
        self._device = device
        self._allow_fallback = allow_fallback
        self._programs: dict[str, _Program] = {}
        self.provider = self._best_provider()
        self.threads = threads or _pool.in_use() or physical_cores()
        _pool.require(self.threads)

    def close(self) -> None:
        """Free every method, whoever still holds its runner; the declarations stay."""
        super().close()
        self._programs.clear()

    def _best_provider(self) -> str:
        """What the target's graphs run on here, the accelerator first."""
        graphs = self._bundle.manifest.graphs_of(self._target)
        if not graphs:
            known = ", ".join(self._bundle.manifest.targets)
            raise EngineError(f"target {self._target}", "has no graphs in the bundle", f"use one of {known}")
        needed = [set(self._backends(graph)) for graph in graphs]
        here = set(self._library.native._get_registered_backend_names())
        if not any(backends <= here for backends in needed):
            raise self._lacking(f"target {self._target}", min(set().union(*needed) - here))
        providers = [VULKAN if VULKAN in backends else XNNPACK for backends in needed if backends <= here]
        if self._device == "gpu" and VULKAN not in providers and not self._allow_fallback:
            if any(VULKAN in backends for backends in needed):
                raise self._lacking(f"target {self._target}", VULKAN)
            raise EngineError(f"target {self._target}", f"is not compiled for {VULKAN}", self._gpu_mend())
        return VULKAN if VULKAN in providers else XNNPACK

    def _open(self, graph: Graph) -> ExecutorchRunner:
        backends = self._backends(graph)
        self._check_device(graph, backends)
        with _pool.sized(self._library, self.threads) as runners:
            runner = self._load(graph, backends)
            runners.add(runner)
        return runner

    def _load(self, graph: Graph, backends: Mapping[str, int]) -> ExecutorchRunner:
        def load() -> tuple[_Program, Any]:
            program = self._program(graph)
            return program, program.load(graph)

        (program, method), declaration = opened(graph, load, self.threads)
        fallback = self._device == "gpu" and VULKAN not in backends
        declaration = replace(declaration, nodes=dict(backends) or {PORTABLE: 0}, fallback=fallback)
        sides = view_sides(self._bundle.manifest, graph)
        return ExecutorchRunner(self._library, graph, method, program.running, sides, declaration)

    def _check_device(self, graph: Graph, backends: Mapping[str, int]) -> None:
        """Refuse a graph whose backend is missing, or is not what was asked for."""
        for backend in sorted(backends):
            if not self._library.native._is_available(backend):
                raise self._lacking(f"graph {graph.name}", backend)
        if self._device == "cpu" and VULKAN in backends:
            fix = "open it with device gpu or auto, or another target of the bundle"
            raise EngineError(f"graph {graph.name}", f"is compiled for {VULKAN}, no CPU runs it", fix)
        if self._device == "gpu" and VULKAN not in backends and not self._allow_fallback:
            raise EngineError(f"graph {graph.name}", f"is not compiled for {VULKAN}", self._gpu_mend())

    def _gpu_mend(self) -> str:
        return "open it with device auto, or allow the fallback"

    def _lacking(self, thing: str, backend: str) -> EngineError:
        """Nothing else can run what is compiled for a backend, whatever fallback is allowed."""
        others = ", ".join(name for name in self._bundle.manifest.targets if name != self._target)
        fix = f"open another target of the bundle ({others})" if others else "compile for another target"
        reason = f"needs {backend}, which this build of executorch has not"
        return EngineError(thing, reason, f"{fix}, or install a build of executorch that has it")

    def _backends(self, graph: Graph) -> dict[str, int]:
        """How many delegates a graph has, by backend."""
        methods = _delegates(self._bundle.path(graph.file))
        if graph.method not in methods:
            reason = f"{graph.file} has no method {graph.method}"
            raise EngineError(f"graph {graph.name}", reason, _COMPILE_AGAIN)
        return methods[graph.method]

    def _program(self, graph: Graph) -> _Program:
        if graph.file not in self._programs:
            self._programs[graph.file] = _Program(self._library, self._bundle.path(graph.file))
        return self._programs[graph.file]


class ExecutorchRunner(OpenedGraph):
    """One method; ``nodes`` of its declaration counts delegates."""

    def __init__(
        self,
        library: _Library,
        graph: Graph,
        method: Any,
        running: threading.Lock,
        sides: tuple[int, int] | None,
        declaration: GraphDeclaration,
    ) -> None:
        super().__init__(graph, declaration)
        self._library = library
        self._method: Any = method
        self._running = running
        self._sides = sides

    def __call__(self, **inputs: Array) -> dict[str, Array]:
        """Run on ``inputs`` and return the named outputs. Raises: EngineError as declared."""
        self._check(inputs)
        tensors = [self._tensor(inputs[name]) for name in self._graph.inputs]
        with self._running:
            if self._method is None:
                raise closed(self._graph.name)
            try:
                outputs = self._method.call(tensors)
            except RuntimeError as error:
                reason = f"does not run: {one_line(error)}"
                raise EngineError(f"graph {self._graph.name}", reason, _COMPILE_AGAIN) from error
            self._runs += 1
        return {name: value.numpy() for name, value in zip(self._graph.outputs, outputs, strict=True)}

    def close(self) -> None:
        """Free the method, as soon as it does not run."""
        with self._running:
            self._method = None
        _pool.release(self)

    def _tensor(self, value: Array) -> Any:
        # torch complains of an array that may not be written to, as frames of a decoder may be.
        return self._library.torch.from_numpy(np.require(value, requirements=("C", "W")))

    def _check(self, inputs: Mapping[str, Array]) -> None:
        """Refuse what the library does not: it runs on sizes that the program was not compiled for."""
        declared = self._graph.inputs
        if inputs.keys() != declared.keys():
            given = ", ".join(inputs) or "nothing"
            raise self._refusal(f"takes {', '.join(declared)} and was given {given}")
        for name, tensor in declared.items():
            value = inputs[name]
            if value.dtype != tensor.dtype or not self._fits(value.shape, tensor):
                takes, got = self._described(tensor), f"{value.dtype} {value.shape}"
                raise self._refusal(f"takes {name} as {takes} and was given {got}")

    def _fits(self, shape: tuple[int, ...], tensor: Tensor) -> bool:
        if len(shape) != len(tensor.shape):
            return False
        sides = {given for given, wanted in zip(shape, tensor.shape, strict=True) if wanted is None}
        fixed = all(wanted in (None, given) for given, wanted in zip(shape, tensor.shape, strict=True))
        if not fixed or not sides or self._sides is None:
            return fixed
        smallest, largest = self._sides
        return len(sides) == 1 and smallest <= min(sides) <= largest

    def _described(self, tensor: Tensor) -> str:
        shape = ", ".join("side" if size is None else str(size) for size in tensor.shape)
        sides = ""
        if self._sides is not None and None in tensor.shape:
            sides = f", side from {self._sides[0]} to {self._sides[1]}"
        return f"{tensor.dtype} ({shape}){sides}"

    def _refusal(self, reason: str) -> EngineError:
        return EngineError(f"graph {self._graph.name}", reason, "give the inputs that the manifest declares")


class _Library(NamedTuple):
    """torch, and the package's native part."""

    torch: Any
    native: Any


@functools.cache
def _library() -> _Library:
    """The package, with the kernels that turn frames into floats. Raises: EngineError if it is missing."""
    with native_log():
        try:
            # Before the native part, which needs torch's libraries.
            import torch

            # Not executorch.runtime: that imports the exporter, seconds of it, only to wrap the same calls.
            native = importlib.import_module("executorch.extension.pybindings._C")
            kernels = Path(str(native.__file__)).parents[2] / "lib" / "libexecutorch_kernels_quantized.so"
            ctypes.CDLL(str(kernels))
        except (ImportError, OSError) as error:
            reason = f"does not import: {one_line(error)}"
            raise EngineError("executorch", reason, install("executorch")) from error
    return _Library(torch, native)


class _Program:
    """One mapped file. Its methods compute in one buffer that they share, so that one runs at a time."""

    def __init__(self, library: _Library, path: Path) -> None:
        self.running = threading.Lock()
        self._path = path
        with native_log() as log:
            try:
                check = library.native.Verification.InternalConsistency
                self._native = library.native._load_program(str(path), program_verification=check)
                return
            except RuntimeError as failure:
                error = failure
        raise EngineError(path, _reason(error, log), _COMPILE_AGAIN) from error

    def load(self, graph: Graph) -> Any:
        """The method of a graph, its weights packed. Raises: EngineError."""
        with native_log() as log:
            try:
                return self._native.load_method(graph.method)
            except RuntimeError as failure:
                error = failure
        reason = f"method {graph.method} of {self._path.name} does not load: {_reason(error, log)}"
        raise EngineError(f"graph {graph.name}", reason, _COMPILE_AGAIN) from error


class _Pool:
    """The library's one pool of threads, and the runners whose methods hold on to it.

    A loaded method keeps the address of the pool. One that runs after the pool was resized ends the process,
    so that it is resized only while no method is loaded.
    """

    def __init__(self) -> None:
        self._runners: weakref.WeakSet[ExecutorchRunner] = weakref.WeakSet()
        self._threads: int | None = None
        self._lock = threading.Lock()

    def in_use(self) -> int | None:
        """How many threads it has, if any method is loaded."""
        return self._threads if len(self._runners) else None

    def require(self, threads: int) -> None:
        """Raises: EngineError if methods are loaded that use another number of threads."""
        if self.in_use() not in (None, threads):
            reason = f"are not to be had: the process already runs ExecuTorch on {self._threads}"
            fix = "close the other engine first, or open this one with as many threads"
            raise EngineError(f"threads {threads}", reason, fix)

    @contextmanager
    def sized(self, library: _Library, threads: int) -> Iterator[weakref.WeakSet[ExecutorchRunner]]:
        """While a method is loaded on so many threads; its runner then joins the set that this gives.

        Raises: EngineError if methods are loaded that use another number.
        """
        with self._lock:
            self.require(threads)
            if threads != self._threads:
                with native_log():
                    library.native._unsafe_reset_threadpool(threads)
                self._threads = threads
            yield self._runners

    def release(self, runner: ExecutorchRunner) -> None:
        """A runner has given up its method."""
        self._runners.discard(runner)


_pool = _Pool()


def view_sides(manifest: Manifest, graph: Graph) -> tuple[int, int] | None:
    """The smallest and the largest size (px) of the views that a graph runs on; None if no variant says."""
    views = {
        option.view
        for variant in manifest.variants
        for option in variant.action_space.options
        if option.graph == graph.name and option.view
    }
    sizes = [manifest.view(view).size for view in views]
    return (min(sizes), max(sizes)) if sizes else None


def _delegates(path: Path) -> dict[str, dict[str, int]]:
    try:
        return delegates(path)
    except (OSError, ValueError) as error:
        raise EngineError(path, one_line(error), _COMPILE_AGAIN) from error


def _reason(error: Exception, log: list[str]) -> str:
    """What the library says, and why, which it says on the standard error stream alone."""
    return "; ".join([one_line(error), *log[-2:]])
