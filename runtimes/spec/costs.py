"""Cost tables: measured time and energy of graphs and views on a named device."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from runtimes.spec.base import Name, Spec


class GraphCost(Spec):
    """What one run of a graph on a view costs on a device.

    ``energy_mj``: beyond what the idle device uses in that time; None where not measured. Of a graph that
    takes several views at once, ``view`` is the first.
    """

    graph: Name
    view: Name
    p50_ms: Annotated[float, Field(ge=0)]
    p95_ms: Annotated[float, Field(ge=0)]
    memory_mb: float | None = None
    energy_mj: float | None = None


class ViewCost(Spec):
    """What rendering one view from a decoded frame costs on a device; ``energy_mj`` as for a graph."""

    view: Name
    p50_ms: Annotated[float, Field(ge=0)]
    p95_ms: Annotated[float, Field(ge=0)]
    energy_mj: float | None = None


class CostTable(Spec):
    """Measured costs of every graph and view on one named device.

    ``idle_w``: what the device used while nothing ran; ``energy_source``: the meter that measured the
    energies. None where there was none. ``runs``: those of each graph on each view; None where that was not
    kept.
    """

    device: str
    providers: tuple[str, ...]
    threads: int
    graphs: tuple[GraphCost, ...]
    views: tuple[ViewCost, ...]
    idle_w: float | None = None
    energy_source: str | None = None
    runs: Annotated[int, Field(ge=1)] | None = None

    @property
    def setup(self) -> tuple[str, tuple[str, ...], int]:
        """Where and how it was measured: device, providers and threads. One table of each is kept."""
        return self.device, self.providers, self.threads

    def graph_ms(self, graph: str, view: str) -> float:
        """Median ms of one run of ``graph`` on ``view``, resizing included.

        Raises: KeyError if the table has no such row.
        """
        return self.run_ms(graph, view) + self.view_ms(view)

    def graph_mj(self, graph: str, view: str) -> float | None:
        """Energy (mJ) of the same, None if not measured. Raises: KeyError."""
        run, rendering = self.run_mj(graph, view), self.view_mj(view)
        return None if run is None or rendering is None else run + rendering

    def run_ms(self, graph: str, view: str) -> float:
        """Median ms of one run of ``graph`` on ``view`` alone. Raises: KeyError."""
        return {(row.graph, row.view): row.p50_ms for row in self.graphs}[graph, view]

    def view_ms(self, view: str) -> float:
        """Median ms of rendering ``view``. Raises: KeyError."""
        return {row.view: row.p50_ms for row in self.views}[view]

    def run_mj(self, graph: str, view: str) -> float | None:
        """Energy (mJ) of one run of ``graph`` on ``view`` alone, None if not measured. Raises: KeyError."""
        return {(row.graph, row.view): row.energy_mj for row in self.graphs}[graph, view]

    def view_mj(self, view: str) -> float | None:
        """Energy (mJ) of rendering ``view``, None if not measured. Raises: KeyError."""
        return {row.view: row.energy_mj for row in self.views}[view]
