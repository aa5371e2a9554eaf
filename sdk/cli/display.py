"""How results are shown: JSON lines, plain lines, or one live table; and the summary at the end."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.table import Table

from sdk.results import ASLEEP, HELD, NOT_CHOSEN, RAN, THROTTLED, Recognition
from sdk.streaming.statistics import StatisticsSnapshot
from sdk.streaming.summary import summary_table
from sdk.tables import console, table

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
    console(stderr=as_json).print(summary_table(statistics))


def print_missing(missing: Collection[str], options: Collection[str]) -> None:
    """Print on stderr what a partial bundle lacks, and the options that are available without."""
    print(f"missing: {', '.join(sorted(missing))}; available: {', '.join(options)}", file=sys.stderr)


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
    """The average power, the operating point or the price, and what is wrong with the budget."""
    problem = recognition.budget_problem or recognition.energy_problem
    if recognition.power_w is None and recognition.budget_met is None and problem is None:
        return ""
    power = "     ?" if recognition.power_w is None else f"{recognition.power_w:6.2f}"
    way = f"price {recognition.price:5.2f}" if recognition.point is None else recognition.point
    return f"  {power} W  {way}{f'  ({problem})' if problem else ''}"


def _lacking(recognition: Recognition) -> str:
    """The modalities that could not be had, and why."""
    lacking = [
        f"{name} {said}"
        for name, said in recognition.modalities.items()
        if said not in (RAN, NOT_CHOSEN, HELD, ASLEEP, THROTTLED)
    ]
    return f"  ({', '.join(lacking)})" if lacking else ""


@contextmanager
def _live_table(statistics: Callable[[], StatisticsSnapshot]) -> Iterator[Callable[[Recognition], None]]:
    latest: list[Recognition] = []

    def draw() -> Group | str:
        return (
            Group(_answer(latest[-1]), summary_table(statistics()))
            if latest
            else "waiting for the first frame"
        )

    def show(recognition: Recognition) -> None:
        latest[:] = [recognition]

    # Drawn by rich's own thread a few times a second, not at every step: drawing would cost more than a step.
    with Live(get_renderable=draw, refresh_per_second=_REDRAWS_HZ, transient=True):
        yield show


def _answer(recognition: Recognition) -> Table:
    rows = table("time", "label", "score", "choice", "ms", "W", "point or price", "budget")
    power = "" if recognition.power_w is None else f"{recognition.power_w:.2f}"
    met = {True: "met", False: f"not met: {recognition.budget_problem}"}
    rows.add_row(
        f"{recognition.time_s:.2f} s",
        recognition.label,
        f"{recognition.score:.2f}",
        recognition.choice + _lacking(recognition),
        f"{recognition.latency_ms.total:.2f}",
        power,
        recognition.point or f"{recognition.price:.2f}",
        met.get(bool(recognition.budget_met), "") if recognition.budget_met is not None else "",
    )
    return rows
