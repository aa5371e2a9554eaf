"""Shows a bundle's targets side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from sdk.comparison import TargetReport, to_json


def print_comparison(reports: Sequence[TargetReport], as_json: bool) -> None:
    """A table of the targets, and one of the graphs; or one JSON list on stdout."""
    if as_json:
        print(json.dumps(to_json(reports)))
        return
    Console(highlight=False).print(_targets(reports), _graphs(reports))


def _targets(reports: Sequence[TargetReport]) -> Table:
    head = ("target", "runs on", "file MB", "opened ms", "memory MB", "ms a step", "same choices")
    table = Table(*head, "same labels", "scores apart")
    for report in reports:
        table.add_row(
            report.target,
            report.provider,
            f"{report.file_mb:.2f}",
            f"{report.opened_ms:.0f}",
            "not measured" if report.memory_mb is None else f"{report.memory_mb:.1f}",
            f"{report.step_ms:.2f}",
            f"{report.same_choices:.1%}",
            f"{report.same_labels:.1%}",
            f"{report.score_difference:.1e}",
        )
    return table


def _graphs(reports: Sequence[TargetReport]) -> Table:
    table = Table("graph", *(f"{report.target} ms" for report in reports))
    for graph in reports[0].graph_ms:
        table.add_row(graph, *(f"{report.graph_ms[graph]:.3f}" for report in reports))
    return table
