"""The ONNX Runtime engine: one session per graph, whatever the sizes of the views it runs on."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnxruntime as ort

from runtimes.bundle import Bundle
from runtimes.cache import cache_folder, whole_folder
from runtimes.device import cpu_model, physical_cores, sums_int8_exactly
from runtimes.engines.base import OpenedGraph, OpenedGraphs, closed, one_line, opened
from runtimes.engines.engine import Array, GraphDeclaration
from runtimes.engines.tensorrt import tensorrt_options
from runtimes.errors import EngineError
from runtimes.spec import Graph
from runtimes.weight_store_install import installed_graph

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
_PROVIDERS = {"cpu": CPU, "cuda": CUDA, "tensorrt": TENSORRT}
_OPTIMISED = "graph.onnx"
_ERRORS_ONLY = 3


class OnnxEngine(OpenedGraphs["OnnxRunner"]):
    """Opens a bundle's graphs with ONNX Runtime.

    Policies run on one thread: they are too small to share out. On the CPU, fp32 graphs are optimized once
    and then mapped from the user's cache, which opens faster and shares their weights between processes.
    """

    def __init__(
        self,
        bundle: Bundle,
        device: str = "auto",
        *,
        target: str | None = None,
        allow_fallback: bool = False,
        threads: int | None = None,
    ) -> None:
        super().__init__(bundle, target)
        self._allow_fallback = allow_fallback or device == "auto"
        self._wanted = _wanted(device)
        self.threads = threads or physical_cores()
        self.provider = self._available()

    def _available(self) -> str:
        """The provider that is wanted if this build of the runtime has it, or the allowed fallback."""
        if self._wanted in ort.get_available_providers():
            return self._wanted
        if not self._allow_fallback:
            fix = "install onnxruntime-gpu (for Jetson: NVIDIA's build of it), or allow the fallback"
            raise EngineError("onnxruntime", f"has no {self._wanted} here", fix)
        return CPU

    def _open(self, graph: Graph) -> OnnxRunner:
        session, declaration = opened(graph, lambda: self._session(graph), self._threads_of(graph))
        nodes = _nodes_by_provider(session)
        declaration = replace(declaration, nodes=nodes, fallback=self._wanted not in nodes)
        if declaration.fallback:
            if not self._allow_fallback:
                fix = "check the accelerator's driver and libraries, or allow the fallback"
                raise EngineError(f"graph {graph.name}", f"does not run on {self._wanted}", fix)
            self.provider = declaration.provider
        return OnnxRunner(graph, declaration, session)

    def _session(self, graph: Graph) -> ort.InferenceSession:
        path, options = installed_graph(self._bundle, graph), session_options(self._threads_of(graph))
        if self.provider == CPU and graph.role == "branch":
            # Both keep a graph's largest activations for good, 4-8 MB each, and make no branch faster. A run
            # of the policy they do make shorter, by up to 0.1 ms.
            options.enable_cpu_mem_arena = options.enable_mem_pattern = False
        if self.provider == CPU and graph.precision == "fp32":
            path = self._optimized(graph, path)
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        return _create(graph, path, options, self._providers(graph))

    def _optimized(self, graph: Graph, path: Path) -> Path:
        """The graph as this processor's kernels want it, its weights in a file to map; made once.

        Weights laid out anew by every process would cost it their size in private memory, and the time.
        """
        folder = cache_folder("onnx") / self._digest(graph, ort.__version__, cpu_model())
        if not folder.is_dir():
            with whole_folder(folder) as growing:
                options = session_options(self._threads_of(graph))
                # The runtime warns that the result fits this machine only, which is the intention.
                options.log_severity_level = _ERRORS_ONLY
                options.optimized_model_filepath = str(growing / _OPTIMISED)
                entry = "session.optimized_model_external_initializers_"
                options.add_session_config_entry(f"{entry}file_name", "weights.bin")
                options.add_session_config_entry(f"{entry}min_size_in_bytes", "1024")
                _create(graph, path, options, [CPU])
        return folder / _OPTIMISED

    def _providers(self, graph: Graph) -> list[Any]:
        available = ort.get_available_providers()
        if self.provider == CPU:
            return [CPU]
        if self.provider == CUDA:
            return [CUDA, CPU]
        options = tensorrt_options(self._bundle.manifest, graph, self._digest(graph), ort.__version__)
        return [(TENSORRT, options), *([CUDA] if CUDA in available else []), CPU]

    def _threads_of(self, graph: Graph) -> int:
        return 1 if graph.role == "policy" else self.threads

    def _digest(self, graph: Graph, *circumstances: str) -> str:
        files = self._bundle.manifest.files
        parts = [files[file].sha256 for file in self._bundle.manifest.files_of(graph)]
        return hashlib.sha256("\n".join([*parts, *circumstances]).encode()).hexdigest()


class OnnxRunner(OpenedGraph):
    """One session."""

    def __init__(self, graph: Graph, declaration: GraphDeclaration, session: ort.InferenceSession) -> None:
        super().__init__(graph, declaration)
        self._session: ort.InferenceSession | None = session
        self._outputs = [output.name for output in session.get_outputs()]

    def __call__(self, **inputs: Array) -> dict[str, Array]:
        """Run on ``inputs`` and return the named outputs. Raises: EngineError as declared."""
        session = self._session
        if session is None:
            raise closed(self._graph.name)
        try:
            values = session.run(self._outputs, inputs)
        except Exception as error:  # the runtime's own errors share no narrower base
            fix = "give the inputs that the manifest declares"
            raise EngineError(f"graph {self._graph.name}", one_line(error), fix) from error
        self._runs += 1
        return dict(zip(self._outputs, values, strict=True))

    def close(self) -> None:
        """Free the session."""
        self._session = None


def _wanted(device: str) -> str:
    """The provider for ``device``; for ``auto`` the best that this build of the runtime has.

    Raises: EngineError if it is another runtime's.
    """
    if device == "auto":
        available = ort.get_available_providers()
        return next(name for name in (TENSORRT, CUDA, CPU) if name in available)
    if device not in _PROVIDERS:
        fix = f"use one of {', '.join(_PROVIDERS)}, or open the graphs of another target"
        raise EngineError(f"device {device}", "is none of ONNX Runtime's", fix)
    return _PROVIDERS[device]


def session_options(threads: int) -> ort.SessionOptions:
    """What every session on this machine is opened with."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Waiting threads sleep. Spinning gains 15 % on an idle machine, but takes three times the processor time,
    # and twice the wall time as soon as anything else (the decoder, to begin with) wants a core.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if not sums_int8_exactly():
        # Other kernels, 10 to 30 % slower, that do not saturate: see docs/quantization.md.
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def _create(
    graph: Graph, path: Path, options: ort.SessionOptions, providers: list[Any]
) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # the runtime's own errors share no narrower base
        fix = "compile again for this machine's runtime, or upgrade onnxruntime"
        raise EngineError(f"graph {graph.name}", one_line(error), fix) from error


def _nodes_by_provider(session: ort.InferenceSession) -> dict[str, int]:
    if not hasattr(session, "get_provider_graph_assignment_info"):  # older versions do not tell
        return {session.get_providers()[0]: 0}
    counts: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        counts[part.ep_name] += len(part.get_nodes())
    return dict(counts)
