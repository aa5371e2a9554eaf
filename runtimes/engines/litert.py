"""The LiteRT engine: one session per graph, whatever the sizes of the views it runs on."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from threading import Lock

import numpy as np

from runtimes.bundle import Bundle
from runtimes.cache import cache_folder, whole_folder
from runtimes.device import cpu_model, physical_cores
from runtimes.engines import litert_sessions as sessions
from runtimes.engines.base import OpenedGraph, OpenedGraphs, closed, one_line, opened
from runtimes.engines.engine import Array, GraphDeclaration
from runtimes.engines.litert_sessions import GPU, XNNPACK, Session
from runtimes.engines.native_log import native_log
from runtimes.errors import EngineError
from runtimes.spec import Graph, Tensor
from runtimes.words import install

_DEVICES = ("auto", "cpu", "gpu")
_FLOAT = ("fp32", "fp16")
_WEIGHTS = "weights.xnnpack"
_RENEW = f"copy the bundle again, or upgrade the runtime: {install('litert')}"


class LitertEngine(OpenedGraphs["LitertRunner"]):
    """Opens a bundle's graphs of one target with LiteRT.

    ``auto`` is the CPU: whether a GPU truly runs a graph shows only when it is compiled for it, which may
    take a minute. Policies run on one thread, in an interpreter: that is as fast as compiled, and says which
    nodes run where. Branches on the CPU are compiled, with their weights laid out once and then mapped from
    the user's cache: that opens faster and shares them between processes.
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
        if device not in _DEVICES:
            raise EngineError(f"device {device}", "is unknown to LiteRT", f"use one of {', '.join(_DEVICES)}")
        super().__init__(bundle, target)
        self._allow_fallback = allow_fallback
        self._version = sessions.version()
        self._wanted = GPU if device == "gpu" else XNNPACK
        self.threads = threads or physical_cores()
        self.provider = self._available()

    def _available(self) -> str:
        """What is wanted if this version of the runtime has it, or the allowed fallback."""
        if self._wanted == GPU and sessions.compiled_model_module() is None:
            if not self._allow_fallback:
                raise EngineError(self._version, "runs nothing on a GPU", install("litert"))
            return XNNPACK
        return self._wanted

    def _open(self, graph: Graph) -> LitertRunner:
        with native_log():  # of every accelerator that it looks for and does not find
            session, declaration = opened(graph, lambda: self._session(graph), self._threads_of(graph))
        fallback = self._wanted not in session.nodes
        return LitertRunner(graph, replace(declaration, nodes=session.nodes, fallback=fallback), session)

    def _session(self, graph: Graph) -> Session:
        path = self._bundle.path(graph.file)
        try:
            sessions.check_file(path, self._bundle.manifest.files[graph.file].bytes)
        except (OSError, ValueError) as error:
            raise EngineError(f"graph {graph.name}", one_line(error), _RENEW) from error
        if self.provider == GPU:
            on_gpu = self._gpu_session(graph, path)
            if on_gpu is not None:
                return on_gpu
            self.provider = XNNPACK
        return self._cpu_session(graph, path)

    def _gpu_session(self, graph: Graph, path: Path) -> Session | None:
        """The graph on the GPU alone; None if it does not run there, and need not."""
        cause: Exception | None = None
        if graph.precision in _FLOAT:
            try:
                return sessions.CompiledSession(path, self._threads_of(graph), gpu=True)
            except Exception as error:  # the runtime's own say no more than where in its source they arose
                cause, reason = error, "does not run on a GPU here"
                fix = "check the GPU's driver, or allow the fallback to the CPU"
        else:
            # It takes them without a word and computes something else: logits off by more than their size.
            reason = f"is {graph.precision}, and LiteRT's GPU gets integers wrong"
            fix = "take a variant in fp32 or fp16, or allow the fallback to the CPU"
        if not self._allow_fallback:
            raise EngineError(f"graph {graph.name}", reason, fix) from cause
        return None

    def _cpu_session(self, graph: Graph, path: Path) -> Session:
        threads = self._threads_of(graph)
        try:
            if graph.role == "policy" or sessions.compiled_model_module() is None:
                return sessions.InterpreterSession(path, threads)
            return sessions.CompiledSession(path, threads, weights=self._weights(graph, path))
        except EngineError:
            raise
        except Exception as error:  # the runtime's own errors share no narrower base
            reason = f"does not open with {self._version} ({_reason(path, error)})"
            raise EngineError(f"graph {graph.name}", reason, _RENEW) from error

    def _weights(self, graph: Graph, path: Path) -> Path:
        """File with the weights as this processor's kernels want them, to be mapped; made once."""
        digest = self._bundle.manifest.files[graph.file].sha256
        circumstances = "\n".join((digest, self._version, cpu_model()))
        folder = cache_folder("litert") / hashlib.sha256(circumstances.encode()).hexdigest()
        if not folder.is_dir():
            with whole_folder(folder) as growing:
                sessions.CompiledSession(path, self._threads_of(graph), weights=growing / _WEIGHTS).close()
        return folder / _WEIGHTS

    def _threads_of(self, graph: Graph) -> int:
        return 1 if graph.role == "policy" else self.threads


class LitertRunner(OpenedGraph):
    """One session, run by one thread at a time."""

    def __init__(self, graph: Graph, declaration: GraphDeclaration, session: Session) -> None:
        super().__init__(graph, declaration)
        self._session: Session | None = session
        self._in_use = Lock()

    def __call__(self, **inputs: Array) -> dict[str, Array]:
        """Run on ``inputs`` and return the named outputs. Raises: EngineError as declared."""
        with self._in_use:
            if self._session is None:
                raise closed(self._graph.name)
            self._check(inputs)
            try:
                given = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
                outputs = self._session.run(given)
            except Exception as error:  # the runtime's own errors share no narrower base
                fix = "open the engine again, on the cpu if it was not"
                raise EngineError(f"graph {self._graph.name}", one_line(error), fix) from error
            self._runs += 1
        return outputs

    def close(self) -> None:
        """Free the session, as soon as it does not run."""
        with self._in_use:
            if self._session is not None:
                self._session.close()
            self._session = None

    def _check(self, inputs: dict[str, Array]) -> None:
        """The runtime itself takes arrays of any shape, and computes on what it finds in memory."""
        wanted, thing = self._graph.inputs, f"graph {self._graph.name}"
        if inputs.keys() != wanted.keys():
            fix = f"give {', '.join(wanted)}"
            raise EngineError(thing, f"was given the inputs {', '.join(inputs) or 'none'}", fix)
        for name, array in inputs.items():
            if not _fits(array, wanted[name]):
                shape = "x".join("?" if size is None else str(size) for size in wanted[name].shape)
                reason = f"input {name} is {array.dtype} {'x'.join(map(str, array.shape))}"
                raise EngineError(thing, reason, f"give {wanted[name].dtype} {shape}")


def _fits(array: Array, wanted: Tensor) -> bool:
    return (
        array.dtype == wanted.dtype
        and array.ndim == len(wanted.shape)
        and all(size in (None, given) for size, given in zip(wanted.shape, array.shape, strict=True))
        and array.size > 0
    )


def _reason(path: Path, error: Exception) -> str:
    """Why a graph does not open: compiling says little, the interpreter names what it does not know."""
    try:
        sessions.InterpreterSession(path, threads=1).close()
    except Exception as reason:  # the runtime's own errors share no narrower base
        return one_line(reason)
    return one_line(error)
