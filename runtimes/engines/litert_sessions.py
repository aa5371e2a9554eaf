"""LiteRT's two ways to open a graph behind one interface, with whatever version of it is installed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from runtimes.engines.engine import Array
from runtimes.errors import EngineError
from runtimes.words import install

XNNPACK = "LiteRT-XNNPACK"
BUILTIN = "LiteRT-builtin"
GPU = "LiteRT-GPU"

_IDENTIFIER = slice(4, 8)
_FORMAT = b"TFL3"


class Session(Protocol):
    """One opened graph."""

    @property
    def nodes(self) -> dict[str, int]:
        """Nodes by what runs them; 0 where the runtime does not tell how many."""
        ...

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Outputs by name, copies, of all inputs by name, of the graph's types and of any sizes it takes."""
        ...

    def close(self) -> None:
        """Free it."""
        ...


class InterpreterSession:
    """A graph in an interpreter, which says what runs where, with its weights laid out in private memory.

    Raises: what the runtime raises if it cannot open the graph.
    """

    def __init__(self, path: Path, threads: int) -> None:
        self._interpreter = interpreter_module().Interpreter(str(path), num_threads=threads)
        (signature,) = self._interpreter._get_full_signature_list().values()
        self._inputs: dict[str, int] = signature["inputs"]
        self._outputs: dict[str, int] = signature["outputs"]
        self._interpreter.allocate_tensors()
        details = self._interpreter.get_input_details()
        self._shapes = {entry["index"]: tuple(map(int, entry["shape"])) for entry in details}
        self.nodes = _placement(self._interpreter)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See ``Session``."""
        given = {self._inputs[name]: array for name, array in inputs.items()}
        changed = [tensor for tensor, array in given.items() if self._shapes[tensor] != array.shape]
        for tensor in changed:
            self._interpreter.resize_tensor_input(tensor, given[tensor].shape)
            self._shapes[tensor] = given[tensor].shape
        if changed:
            self._interpreter.allocate_tensors()
        for tensor, array in given.items():
            self._interpreter.set_tensor(tensor, array)
        self._interpreter.invoke()
        return {name: self._interpreter.get_tensor(tensor) for name, tensor in self._outputs.items()}

    def close(self) -> None:
        """See ``Session``."""
        self._interpreter = None


class CompiledSession:
    """A compiled graph: on the CPU with its weights mapped from ``weights``, or on the GPU alone.

    Raises: what the runtime raises if it cannot open the graph, or no GPU runs all of it.
    """

    def __init__(self, path: Path, threads: int, *, weights: Path | None = None, gpu: bool = False) -> None:
        module = compiled_model_module()
        assert module is not None, "the caller has asked whether there is one"
        kind = module.HardwareAccelerator
        options = module.Options(
            kind.GPU if gpu else kind.CPU,
            module.CpuOptions(num_threads=threads, xnnpack_weight_cache_path=str(weights or "")),
            # In half precision scores are off by a hundredth, which turns close decisions.
            module.GpuOptions(enforce_f32=True),
        )
        self._model = module.CompiledModel.from_file(str(path), options=options, environment=_environment())
        if gpu and not self._model.is_fully_accelerated():
            raise RuntimeError("some of its nodes do not run on the GPU")
        (self._signature,) = self._model.get_signature_list()
        self.nodes = {GPU if gpu else XNNPACK: 0}
        self._bind()
        # The first write sets up more of the library, which logs it: now, while the log is captured.
        for name, entry in self._model.get_input_tensor_details(self._signature).items():
            self._inputs[name].write(np.zeros(entry["shape"], entry["dtype"]))

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See ``Session``."""
        changed = [name for name, array in inputs.items() if self._shapes[name] != array.shape]
        for name in changed:
            shape = inputs[name].shape
            self._model.resize_input_tensor_by_name(self._signature, name, shape, strict=False)
        if changed:
            self._bind()
        for name, array in inputs.items():
            self._inputs[name].write(array)
        self._model.run_by_name(self._signature, self._inputs, self._outputs)
        return {
            name: buffer.read(prod(self._results[name]), np.float32).reshape(self._results[name])
            for name, buffer in self._outputs.items()
        }

    def close(self) -> None:
        """See ``Session``."""
        self._inputs.clear()
        self._outputs.clear()
        self._model.close()

    def _bind(self) -> None:
        """Make buffers for the sizes that the graph has now."""
        model, signature = self._model, self._signature
        entries = model.get_input_tensor_details(signature)
        results = model.get_output_tensor_details(signature)
        self._shapes = {name: tuple(entry["shape"]) for name, entry in entries.items()}
        self._results = {name: tuple(entry["shape"]) for name, entry in results.items()}
        self._inputs = {name: model.create_input_buffer_by_name(signature, name) for name in entries}
        self._outputs = {name: model.create_output_buffer_by_name(signature, name) for name in results}


@cache
def interpreter_module() -> Any:
    """The module of LiteRT's interpreter; on old systems that of its predecessor.

    Raises: EngineError if there is neither.
    """
    for package in ("ai_edge_litert", "tflite_runtime"):
        try:
            return import_module(f"{package}.interpreter")
        except ImportError:
            continue
    raise EngineError("LiteRT", "is not installed", install("litert"))


@cache
def compiled_model_module() -> Any | None:
    """The module of compiled graphs; None where the installed runtime is too old to have it."""
    try:
        return import_module("ai_edge_litert.compiled_model")
    except ImportError:
        return None


def version() -> str:
    """The installed runtime and its version."""
    package = interpreter_module().__name__.partition(".")[0]
    return f"{package} {getattr(import_module(package), '__version__', '?')}"


def check_file(path: Path, size: int) -> None:
    """Raises: ValueError if a graph's file is not of ``size`` bytes, or no .tflite; OSError if it is lost.

    The runtime itself says no more of such a file than that it is not valid.
    """
    found = path.stat().st_size
    if found != size:
        raise ValueError(f"its file has {found} bytes, not the {size} of the manifest")
    with path.open("rb") as file:
        if file.read(_IDENTIFIER.stop)[_IDENTIFIER] != _FORMAT:
            raise ValueError("its file is not a .tflite")


@cache
def _environment() -> Any:
    """What all compiled graphs of this process share: loading its accelerators takes longest."""
    module = compiled_model_module()
    assert module is not None
    return module.Environment.create(options=module.EnvironmentOptions())


def _placement(interpreter: Any) -> dict[str, int]:
    """Nodes by what runs them: walking back from the outputs, a delegate hides those that it replaced."""
    if not hasattr(interpreter, "_get_ops_details"):
        return {XNNPACK: 0}
    operators = interpreter._get_ops_details()
    plain = [entry for entry in operators if entry["op_name"] != "DELEGATE"]
    delegates = [entry for entry in operators if entry["op_name"] == "DELEGATE"]
    makers = {int(tensor): entry for entry in (*plain, *delegates) for tensor in entry["outputs"]}
    waiting = [int(entry["index"]) for entry in interpreter.get_output_details()]
    reached: dict[int, str] = {}
    while waiting:
        maker = makers.get(waiting.pop())
        if maker is not None and maker["index"] not in reached:
            reached[maker["index"]] = maker["op_name"]
            waiting += map(int, maker["inputs"])
    builtin = sum(name != "DELEGATE" for name in reached.values())
    return {XNNPACK: len(plain) - builtin, BUILTIN: builtin}
