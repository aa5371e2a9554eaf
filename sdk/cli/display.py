"""How results are shown: JSON lines, plain lines, or one live table; and the summary at the end."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from sdk.results import HELD, NOT_CHOSEN, RAN, Recognition
from sdk.streaming.statistics import StatisticsSnapshot

_REDRAWS_HZ = 4


@contextmanager
def display(
    as_json: bool, statistics: Callable[[], StatisticsSnapshot]
) -> Iterator[Callable[[Recognition], None]]:
    """Yield what shows one result: a live table on a terminal, and lines anywhere else."""
    if as_json:
        yield print_json
    elif not sys.stdout.isatty():
        yield _print_line
    else:
        with _live_table(statistics) as show:
            yield show


def print_summary(statistics: StatisticsSnapshot, as_json: bool) -> None:
    """Print the statistics; with JSON lines on stdout, they go to stderr."""
    Console(stderr=as_json, highlight=False).print(_summary(statistics))


def print_missing(missing: Collection[str], offered: Collection[str]) -> None:
    """Say on stderr what a partial bundle lacks, and what is on offer without."""
    print(f"missing: {', '.join(sorted(missing))}; on offer: {', '.join(offered)}", file=sys.stderr)


def print_json(result: Any) -> None:
    """Print one result's ``to_json()`` as a line, at once: a program may be waiting for it."""
    print(json.dumps(result.to_json()), flush=True)


def _print_line(recognition: Recognition) -> None:
    print(
        f"{recognition.time_s:9.2f} s  {recognition.label:<24} {recognition.score:5.2f}  "
        f"{recognition.choice:<16} {recognition.latency_ms.total:7.2f} ms"
        f"{_under_budget(recognition)}{_lacking(recognition)}",
        flush=True,
    )


def _under_budget(recognition: Recognition) -> str:
    """The average power and the price, and what is wrong with the budget."""
    problem = recognition.budget_problem or recognition.energy_problem
    if recognition.power_w is None and recognition.budget_met is None and problem is None:
        return ""
    power = "     ?" if recognition.power_w is None else f"{recognition.power_w:6.2f}"
    return f"  {power} W  price {recognition.price:5.2f}{f'  ({problem})' if problem else ''}"


def _lacking(recognition: Recognition) -> str:
    """The modalities that could not be had, and why."""
    lacking = [
        f"{name} {said}"
        for name, said in recognition.modalities.items()
        if said not in (RAN, NOT_CHOSEN, HELD)
    ]
    return f"  ({', '.join(lacking)})" if lacking else ""


@contextmanager
def _live_table(statistics: Callable[[], StatisticsSnapshot]) -> Iterator[Callable[[Recognition], None]]:
    latest: list[Recognition] = []

    def draw() -> Group | str:
        return Group(_answer(latest[-1]), _summary(statistics())) if latest else "waiting for the first frame"

    def show(recognition: Recognition) -> None:
        latest[:] = [recognition]

    # Drawn by rich's own thread a few times a second, not at every step: drawing would cost more than a step.
    with Live(get_renderable=draw, refresh_per_second=_REDRAWS_HZ, transient=True):
        yield show


def _answer(recognition: Recognition) -> Table:
    table = Table("time", "label", "score", "choice", "ms", "W", "price", "budget")
    power = "" if recognition.power_w is None else f"{recognition.power_w:.2f}"
    met = {True: "met", False: f"not met: {recognition.budget_problem}"}
    table.add_row(
        f"{recognition.time_s:.2f} s",
        recognition.label,
        f"{recognition.score:.2f}",
        recognition.choice + _lacking(recognition),
        f"{recognition.latency_ms.total:.2f}",
        power,
        f"{recognition.price:.2f}",
        met.get(bool(recognition.budget_met), "") if recognition.budget_met is not None else "",
    )
    return table


def _summary(statistics: StatisticsSnapshot) -> Group:
    rate = "" if statistics.fps is None else f", {statistics.fps:.1f} steps/s"
    drops = ", ".join(f"{cause} {count}" for cause, count in statistics.drops.items() if count) or "none"
    headline = f"{statistics.steps} steps{rate}; drops: {drops}{_energy(statistics)}"
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
    steps = ", ".join(f"{said} at {count} steps" for said, count in statistics.budget.items())
    power = "power not known" if statistics.power_w is None else f"{statistics.power_w:.2f} W of late"
    return f"{used}; {power}, budget {steps}"


def _choices(statistics: StatisticsSnapshot) -> Table:
    table = Table("choice", "steps", "share")
    for choice, count in statistics.choices.items():
        table.add_row(choice, str(count), f"{count / statistics.steps:.0%}")
    return table


def _stages(statistics: StatisticsSnapshot) -> Table:
    table = Table("stage", "p50 ms", "p95 ms", "p99 ms", "steps")
    for stage, spent in statistics.latency_ms.items():
        percentiles = (f"{value:.2f}" for value in (spent.p50, spent.p95, spent.p99))
        table.add_row(stage, *percentiles, str(spent.count))
    return table


def _graphs(statistics: StatisticsSnapshot) -> Table:
    table = Table("graph", "precision", "runs on", "threads", "runs")
    for graph in statistics.graphs:
        where = f"{graph.provider} (fallback)" if graph.fallback else graph.provider
        table.add_row(graph.graph, graph.precision, where, str(graph.threads), str(graph.runs))
    return table
