"""A stream's statistics as people read them: tables for a terminal, for a notebook, or as plain text."""

from __future__ import annotations

from io import StringIO
from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.table import Table

from runtimes.words import counted
from sdk.tables import table

if TYPE_CHECKING:
    from sdk.streaming.statistics import StatisticsSnapshot

_WIDTH = 100


def as_text(content: RenderableType) -> str:
    """What rich would draw, as plain text."""
    console = Console(file=StringIO(), width=_WIDTH, highlight=False, color_system=None)
    with console.capture() as captured:
        console.print(content)
    return captured.get().rstrip()


def as_html(content: RenderableType) -> str:
    """The same as a fragment of HTML, for notebooks."""
    console = Console(file=StringIO(), width=_WIDTH, highlight=False, record=True)
    console.print(content)
    return console.export_html(inline_styles=True, code_format="<pre>{code}</pre>")


def summary_table(statistics: StatisticsSnapshot) -> Group:
    """All of a stream's statistics, for a console of rich's."""
    rate = "" if statistics.fps is None else f", {statistics.fps:.1f} steps/s"
    drops = ", ".join(f"{cause} {count}" for cause, count in statistics.drops.items() if count) or "none"
    headline = f"{counted(statistics.steps, 'step')}{rate}; drops: {drops}{_energy(statistics)}"
    return Group(headline, _choices(statistics), _stages(statistics), _graphs(statistics))


def _energy(statistics: StatisticsSnapshot) -> str:
    if statistics.energy_source is None:
        return ""
    if statistics.energy_mj is None:
        return f"; energy not known ({statistics.energy_source})"
    each = statistics.energy_mj / statistics.energy_steps
    used = f"; {statistics.energy_mj / 1e3:.2f} J, {each:.1f} mJ a step ({statistics.energy_source})"
    if not statistics.budget:
        return used
    steps = ", ".join(f"{said} at {counted(count, 'step')}" for said, count in statistics.budget.items())
    power = "power not known" if statistics.power_w is None else f"{statistics.power_w:.2f} W of late"
    return f"{used}; {power}, budget {steps}"


def _choices(statistics: StatisticsSnapshot) -> Table:
    rows = table("choice", "steps", "share")
    for choice, count in statistics.choices.items():
        rows.add_row(choice, str(count), f"{count / statistics.steps:.0%}")
    return rows


def _stages(statistics: StatisticsSnapshot) -> Table:
    rows = table("stage", "p50 ms", "p95 ms", "p99 ms", "steps")
    for stage, spent in statistics.latency_ms.items():
        percentiles = (f"{value:.2f}" for value in (spent.p50, spent.p95, spent.p99))
        rows.add_row(stage, *percentiles, str(spent.count))
    return rows


def _graphs(statistics: StatisticsSnapshot) -> Table:
    rows = table("graph", "precision", "runs on", "threads", "runs")
    for graph in statistics.graphs:
        where = f"{graph.provider} (fallback)" if graph.fallback else graph.provider
        rows.add_row(graph.graph, graph.precision, where, str(graph.threads), str(graph.runs))
    return rows
