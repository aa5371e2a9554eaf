"""The terminal of a compile: stages with the time they took and the time left, notes and progress bars."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from compiler.cli.stage_times import StageTimes

STAGES = 7
"""Of a compile: data, training, split, verification, operating points (if any), profile and packing."""


class StageConsole:
    """Prints stages, notes and progress bars on the terminal."""

    def __init__(self, times: StageTimes | None = None, stages: int = STAGES) -> None:
        """``times``: what the stages took the last time; ``stages``: how many there are."""
        self._stages = stages
        self._console = Console(highlight=False)
        self._count = 0
        self._times = times
        self._began_s = self._stage_began_s = time.monotonic()
        self._stage: str | None = None

    def stage(self, name: str) -> None:
        """A headline with its number, the time since the start, and the time left if that can be known."""
        self.finish()
        self._count += 1
        self._stage, self._stage_began_s = name, time.monotonic()
        said = [_minutes(time.monotonic() - self._began_s)] if self._count > 1 else []
        left_s = None if self._times is None else self._times.left_s(name)
        if left_s is not None:
            said.append(f"about {_minutes(left_s)} left, by the last compile of this kind")
        since = f"  ({'; '.join(said)})" if said else ""
        self._console.print(f"[bold]\\[{self._count}/{self._stages}] {name}[/bold]{since}")

    def finish(self) -> None:
        """The stage in progress is done; what it took is kept."""
        if self._stage is not None and self._times is not None:
            self._times.record(self._stage, time.monotonic() - self._stage_began_s)
            self._times.save()
        self._stage = None

    def note(self, text: str) -> None:
        """An indented line."""
        self._console.print(f"    {text}", markup=False, soft_wrap=True)

    @contextmanager
    def progress(self, name: str) -> Iterator[Callable[[int, int], None]]:
        """A bar that goes away when done."""
        columns = (
            TextColumn("    {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._console, transient=True) as bars:
            bar = bars.add_task(name, total=None)
            yield lambda done, total: bars.update(bar, completed=done, total=total)


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
