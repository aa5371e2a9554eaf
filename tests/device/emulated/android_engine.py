"""An engine whose graphs run in Android's own ExecuTorch library, in one Java process."""

from __future__ import annotations

import os
import struct
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from runtimes.bundle import Bundle
from runtimes.engines.engine import Array, GraphDeclaration, GraphRunner
from runtimes.engines.executorch import PORTABLE
from runtimes.errors import EngineError
from tests.device.emulated.android_libraries import AndroidLibraries

_CODES: dict[np.dtype[Any], int] = {np.dtype(np.uint8): 0, np.dtype(np.float32): 6}
"""ExecuTorch's own of types that a graph takes or gives."""
_DTYPES = {code: dtype for dtype, code in _CODES.items()}
_MEND = "see what the Java process said"


class AndroidEngine:
    """Runs the graphs of a bundle of one ExecuTorch program: see android/ProgramServer.java."""

    threads = 1

    def __init__(
        self,
        bundle: Bundle,
        libraries: AndroidLibraries,
        java: Sequence[str] = ("java",),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """``java``: the command; ``environment``: of its process, beyond this one's.

        Raises: EngineError if the program does not load.
        """
        self._graphs = {graph.name: graph for graph in bundle.manifest.graphs}
        (file,) = {graph.file for graph in self._graphs.values()}
        self._errors: list[str] = []
        self._process = _start(bundle.path(file), libraries, java, environment or {})
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()
        self._backends = {self._text(): self._text() for _ in range(self._int())}
        self._runs = dict.fromkeys(self._graphs, 0)

    def graph(self, name: str) -> GraphRunner:
        """The graph called ``name``."""
        graph = self._graphs[name]
        assert graph.method in self._backends

        def run(**inputs: Array) -> dict[str, Array]:
            outputs = self._run(str(graph.method), [inputs[entry] for entry in graph.inputs])
            self._runs[name] += 1
            return dict(zip(graph.outputs, outputs, strict=True))

        return run

    @property
    def declared(self) -> tuple[GraphDeclaration, ...]:
        """What each graph runs on, as the library says of its method; how many parts, it does not say."""
        return tuple(
            GraphDeclaration(
                graph=name,
                precision=graph.precision,
                nodes=dict.fromkeys((self._backends[str(graph.method)] or PORTABLE).split(","), 0),
                threads=self.threads,
                fallback=False,
                opened_ms=0.0,
                opened_mb=None,
                runs=self._runs[name],
            )
            for name, graph in self._graphs.items()
        )

    @property
    def provider(self) -> str:
        """What graphs run on."""
        return self.declared[0].provider

    def refresh(self, bundle: Bundle) -> None:
        """Nothing: the bundle is whole."""

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, method: str, inputs: Sequence[Array]) -> list[Array]:
        asked = bytearray(struct.pack(">H", len(method)) + method.encode())
        asked += struct.pack(">i", len(inputs))
        for value in inputs:
            asked += struct.pack(f">{2 + value.ndim}i", _CODES[value.dtype], value.ndim, *value.shape)
            asked += np.ascontiguousarray(value).tobytes()
        assert self._process.stdin is not None
        self._process.stdin.write(asked)
        self._process.stdin.flush()
        failure = self._text()
        if failure:
            raise EngineError(f"method {method}", failure, _MEND)
        return [self._tensor() for _ in range(self._int())]

    def _tensor(self) -> Array:
        dtype = _DTYPES[self._int()]
        shape = [self._int() for _ in range(self._int())]
        return np.frombuffer(self._read(dtype.itemsize * int(np.prod(shape))), dtype).reshape(shape)

    def _text(self) -> str:
        (size,) = struct.unpack(">H", self._read(2))
        return self._read(size).decode()

    def _int(self) -> int:
        (number,) = struct.unpack(">i", self._read(4))
        return int(number)

    def _read(self, size: int) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(size)
        if len(data) < size:
            self._listening.join(timeout=10)
            raise EngineError("the Java process", f"ended: {' / '.join(self._errors[-20:])}", _MEND)
        return data

    def _listen(self) -> None:
        """Keep what the process says of itself, so that it never waits to say it."""
        assert self._process.stderr is not None
        self._errors.extend(line.decode(errors="replace").strip() for line in self._process.stderr)


def _start(
    program: Path, libraries: AndroidLibraries, java: Sequence[str], environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    folders = [str(libraries.folder), *filter(None, [environment.get("LD_LIBRARY_PATH")])]
    command = [*java, "-XX:+DisplayVMOutputToStderr", f"-Dandroid.libraries={libraries.folder}"]
    command += ["-cp", os.pathsep.join(map(str, libraries.classes)), "ProgramServer", str(program)]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment, "LD_LIBRARY_PATH": os.pathsep.join(folders)},
    )
