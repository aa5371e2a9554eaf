"""Shows a bundle's targets side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from rich.table import Table

from sdk.benchmark.comparison import TargetReport, to_json
from sdk.tables import console, table


def print_comparison(reports: Sequence[TargetReport], as_json: bool) -> None:
    """A table of the targets, and one of the graphs; or one JSON list on stdout."""
    if as_json:
        print(json.dumps(to_json(reports)))
        return
    console().print(_targets(reports), _graphs(reports))


def _targets(reports: Sequence[TargetReport]) -> Table:
    """A column each: there are more things to tell than fit side by side."""
    rows_table = table("", *(report.target for report in reports))
    rows: dict[str, Callable[[TargetReport], str]] = {
        "runs on": lambda r: r.provider,
        "files, MB": lambda r: f"{r.file_mb:.2f}",
        "opening and first runs, ms": lambda r: f"{r.opened_ms:.0f}",
        "memory, MB": lambda r: "not measured" if r.memory_mb is None else f"{r.memory_mb:.1f}",
        "whole pipeline, ms a step": lambda r: f"{r.step_ms:.2f}",
        "same choices": lambda r: f"{r.same_choices:.1%}",
        "same labels": lambda r: f"{r.same_labels:.1%}",
        "scores apart": lambda r: f"{r.score_difference:.1e}",
    }
    for name, tell in rows.items():
        rows_table.add_row(name, *map(tell, reports))
    return rows_table


def _graphs(reports: Sequence[TargetReport]) -> Table:
    rows_table = table("graph", *(f"{report.target} ms" for report in reports))
    for graph in reports[0].graph_ms:
        rows_table.add_row(graph, *(f"{report.graph_ms[graph]:.3f}" for report in reports))
    return rows_table
