"""A picture of a stream under a budget: power, points or prices, and choices over time (needs matplotlib)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from runtimes.errors import MissingPackageError, OutputError
from runtimes.outputs import require_writable
from runtimes.words import install
from sdk.budget.budget import Budget
from sdk.results import ASLEEP, HELD, Recognition

_SMOOTHED_S, _WINDOW_S = 2.0, 30.0
_MOST_STEPS = 200_000
"""Steps that a picture is made of at most: what comes after is left out."""


@dataclass(frozen=True, slots=True)
class _Point:
    time_s: float
    energy_j: float | None
    watts: float | None
    price: float
    point: str | None
    choice: str
    met: bool | None


class PowerPlot:
    """Gathers a stream's steps, and draws them when it is left. A context manager."""

    _figure: Any

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._points: list[_Point] = []

    def __enter__(self) -> Self:
        """Raises: MissingPackageError without matplotlib, OutputError if the picture cannot be written."""
        check_plot_path(self._path)
        self._figure = _new_figure()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._points:
            self._draw()
            self._figure.savefig(self._path, dpi=120)

    def add_point(self, recognition: Recognition, budget: Budget | None) -> None:
        """Take one step in."""
        if len(self._points) < _MOST_STEPS:
            energy_j = None if recognition.energy_mj is None else recognition.energy_mj * 1e-3
            watts = None if budget is None else budget.watts
            self._points.append(
                _Point(
                    recognition.time_s,
                    energy_j,
                    watts,
                    recognition.price,
                    recognition.point,
                    recognition.choice,
                    recognition.budget_met,
                )
            )

    def _draw(self) -> None:
        power, way, choice = self._figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 2))
        times = np.array([point.time_s for point in self._points]) - self._points[0].time_s
        self._draw_power(power, times)
        self._draw_way(way, times)
        self._draw_names(choice, times, [point.choice for point in self._points], "#27ae60")
        for panel in (power, way, choice):
            panel.grid(alpha=0.3)
        choice.set(xlabel="seconds")

    def _draw_power(self, panel: Any, times: np.ndarray[Any, Any]) -> None:
        for seconds, color in ((_SMOOTHED_S, "#99bbbb"), (_WINDOW_S, "#114455")):
            panel.plot(times, self._average_w(times, seconds), color=color, label=f"power, {seconds:g} s")
        watts = [np.nan if point.watts is None else point.watts for point in self._points]
        panel.step(times, watts, where="post", color="#c0392b", label="budget")
        missed = np.array([point.met is False for point in self._points])
        if missed.any():
            panel.plot(times[missed], np.array(watts)[missed], "|", color="#c0392b", label="not met")
        panel.set(ylabel="W", ylim=(0, None))
        panel.legend(loc="lower right", bbox_to_anchor=(1, 1), fontsize=8, ncols=4)  # covers no line

    def _average_w(self, times: np.ndarray[Any, Any], seconds: float) -> np.ndarray[Any, Any]:
        """The power of the last ``seconds`` at each step; not a number where it is not known."""
        used = [np.nan if point.energy_j is None else point.energy_j for point in self._points]
        known = np.isfinite(used)
        total = np.cumsum(np.where(known, used, 0.0))
        unknown = np.cumsum(~known)
        begins = np.searchsorted(times, times - seconds)
        spans = times - times[begins]
        with np.errstate(divide="ignore", invalid="ignore"):
            watts = (total - total[begins]) / spans
        enough = (spans > 0.5 * min(seconds, _SMOOTHED_S)) & (unknown == unknown[begins])
        return np.where(enough, watts, np.nan)

    def _draw_way(self, panel: Any, times: np.ndarray[Any, Any]) -> None:
        """The operating points that ran, or the price where none did."""
        names = [point.point for point in self._points]
        if any(names):
            self._draw_names(panel, times, [str(name) for name in names], "#8e44ad")
            return
        panel.plot(times, [point.price for point in self._points], color="#8e44ad", linewidth=1)
        panel.set(ylabel="price", yscale="symlog")

    def _draw_names(self, panel: Any, times: np.ndarray[Any, Any], names: Sequence[str], color: str) -> None:
        rows = sorted(dict.fromkeys(names), key=lambda name: (name in (HELD, ASLEEP), name))
        panel.scatter(times, [rows.index(name) for name in names], s=4, color=color)
        panel.set_yticks(range(len(rows)), rows, fontsize=8)


def check_plot_path(path: str | os.PathLike[str]) -> None:
    """Change nothing, and tell whether a plot can be drawn at ``path``.

    Raises: MissingPackageError without matplotlib, OutputError.
    """
    suffixes = _new_figure().canvas.get_supported_filetypes()
    require_writable(path, "power.png")
    if Path(path).suffix.removeprefix(".") not in suffixes:
        raise OutputError(
            path, "is of no kind that can be drawn", f"use one of {', '.join(sorted(suffixes))}"
        )


def _new_figure() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingPackageError("plot", "matplotlib is not installed", install("plot")) from None
    return Figure(figsize=(10, 7), layout="constrained")
