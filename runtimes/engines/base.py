"""What the engines of all runtimes do alike: graphs that are opened once, counted, and closed together."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from types import TracebackType
from typing import Generic, Self, TypeVar

from runtimes.bundle import Bundle
from runtimes.device import process_memory_mb
from runtimes.engines.engine import Array, GraphDeclaration
from runtimes.errors import EngineError
from runtimes.spec import Graph

Session = TypeVar("Session")


class OpenedGraph(ABC):
    """One graph that a runtime has opened; called with the manifest's named inputs."""

    def __init__(self, graph: Graph, declaration: GraphDeclaration) -> None:
        self._graph, self._declaration = graph, declaration
        self._runs = 0

    @abstractmethod
    def __call__(self, **inputs: Array) -> dict[str, Array]:
        """Run on ``inputs`` and return the named outputs, which are the caller's own.

        Raises: EngineError if an input's name, type or shape is not the graph's, or the engine is closed.
        """

    @abstractmethod
    def close(self) -> None:
        """Free what the runtime holds of it."""

    @property
    def declaration(self) -> GraphDeclaration:
        """What this graph really runs on, and how often it has run."""
        return replace(self._declaration, runs=self._runs)


Opened = TypeVar("Opened", bound=OpenedGraph)


class OpenedGraphs(ABC, Generic[Opened]):
    """A bundle's graphs of one target, each opened when first asked for; a context manager."""

    def __init__(self, bundle: Bundle, target: str | None) -> None:
        self._bundle, self._target = bundle, target
        self._runners: dict[str, Opened] = {}
        self._closed = False

    @abstractmethod
    def _open(self, graph: Graph) -> Opened:
        """Open a graph. Raises: EngineError if it does not open, or does not run where it was asked to."""

    def graph(self, name: str) -> Opened:
        """The graph called ``name``, opened when first asked for.

        Raises: EngineError if it is unknown, does not open, or does not run where it was asked to.
        """
        if self._closed:
            raise closed(name)
        if name not in self._runners:
            self._runners[name] = self._open(self._find(name))
        return self._runners[name]

    @property
    def declared(self) -> tuple[GraphDeclaration, ...]:
        """What each graph opened so far really runs on, in the order of opening."""
        return tuple(runner.declaration for runner in list(self._runners.values()))

    def refresh(self, bundle: Bundle) -> None:
        """Open graphs from here on from ``bundle``: the same one, with files that have come since."""
        self._bundle = bundle

    def close(self) -> None:
        """Free every graph, whoever still holds its runner; the declarations stay."""
        for runner in self._runners.values():
            runner.close()
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _find(self, name: str) -> Graph:
        try:
            return self._bundle.manifest.graph(name, self._target)
        except KeyError:
            known = ", ".join(entry.name for entry in self._bundle.manifest.graphs_of(self._target))
            raise EngineError(f"graph {name}", "is not in the bundle", f"use one of {known}") from None


def opened(
    graph: Graph, open_session: Callable[[], Session], threads: int
) -> tuple[Session, GraphDeclaration]:
    """Open a graph's session; and a declaration of what that took, which does not yet say where it runs."""
    memory, began = process_memory_mb(), time.perf_counter()
    session = open_session()
    opened_ms = (time.perf_counter() - began) * 1e3
    after = process_memory_mb()
    declaration = GraphDeclaration(
        graph=graph.name,
        precision=graph.precision,
        nodes={},
        threads=threads,
        fallback=False,
        opened_ms=opened_ms,
        opened_mb=None if memory is None or after is None else after - memory,
        runs=0,
    )
    return session, declaration


def closed(graph: str) -> EngineError:
    """What is raised when a graph is asked of an engine that is closed, or run: in its owner's words."""
    return EngineError("recognizer", f"is closed, and graph {graph} with it", "open a new one")


def one_line(error: Exception) -> str:
    """What a runtime's own error says, on one line."""
    return " ".join(str(error).split())
