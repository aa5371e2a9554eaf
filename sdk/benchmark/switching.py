"""What it costs to change the branch between two frames: the same runs, in turns and one after the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

_ROUNDS = 5


@dataclass(frozen=True)
class SwitchCost:
    """Median time (ms) of one run of each branch: as the same branch goes on, and changing every time.

    ``spread``: half the distance between the 25th and 75th percentile of the rounds' ratios.
    """

    branches: tuple[str, ...]
    staying_ms: float
    changing_ms: float
    ratio: float
    spread: float

    @property
    def differs(self) -> bool:
        """Whether the ratio is further from 1 than the rounds' quartiles are from each other."""
        return abs(self.ratio - 1) > 2 * self.spread


def measure_switching(
    calls: dict[str, Callable[[], object]], runs: int, clock: Callable[[], float] = time.perf_counter
) -> SwitchCost | None:
    """Run each of ``calls`` (by branch name) ``runs`` times both ways, in rounds; None for fewer than two.

    ``clock`` gives seconds: ``time.process_time`` where other processes want the processor too.
    """
    if len(calls) < 2:
        return None
    staying: list[float] = []
    changing: list[float] = []
    for number in range(_ROUNDS):
        # In turns which goes first, so that load on the machine hits both.
        for way in (0, 1) if number % 2 else (1, 0):
            order = _changing(calls, runs) if way else _staying(calls, runs)
            (changing if way else staying).append(_timed(order, clock) / runs)
    ratios = np.array(changing) / np.array(staying)
    low, middle, high = np.percentile(ratios, (25, 50, 75))
    return SwitchCost(
        branches=tuple(calls),
        staying_ms=float(np.median(staying)),
        changing_ms=float(np.median(changing)),
        ratio=float(middle),
        spread=float(high - low) / 2,
    )


def _staying(calls: dict[str, Callable[[], object]], runs: int) -> list[Callable[[], object]]:
    return [call for call in calls.values() for _ in range(runs)]


def _changing(calls: dict[str, Callable[[], object]], runs: int) -> list[Callable[[], object]]:
    return [call for _ in range(runs) for call in calls.values()]


def _timed(order: Sequence[Callable[[], object]], clock: Callable[[], float]) -> float:
    """Time of all in ms, after one run that is not counted."""
    order[0]()
    began = clock()
    for call in order:
        call()
    return (clock() - began) * 1e3
