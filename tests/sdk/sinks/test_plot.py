"""The picture of a stream under a budget: what is drawn are the numbers of its results."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from runtimes.errors import AdaptiveVideoError
from sdk.budget.budget import Budget
from sdk.results import Latency, Recognition
from sdk.sinks.plot import PowerPlot

LATENCY = Latency(queue=0, decode=1, resize=1, policy=1, branch=1, post=0, total=4)
STEP = Recognition(0.0, 0, "disc", 0.9, (), "rgb224", "int8", LATENCY, 0, False)


def test_power_budget_price_and_choices_are_drawn(tmp_path: Path) -> None:
    """3 W at 10 Hz for 40 s; without a reading at a few steps; the budget changes at 20 s."""
    path = tmp_path / "power.png"
    with PowerPlot(path) as plot:
        for number in range(400):
            budget = Budget(watts=4.0) if number < 200 else Budget(watts=2.0)
            energy = None if 100 <= number < 103 else 300.0
            step = replace(STEP, time_s=5 + number / 10, energy_mj=energy, price=number / 100)
            met = number < 300
            plot.add_point(replace(step, choice="rgb224" if met else "held", budget_met=met), budget)
    power, price, choices = plot._figure.axes
    short, long, allowed, missed = power.lines
    times, watts = short.get_data()
    assert times[-1] == pytest.approx(39.9) and times[0] == 0
    assert np.isnan(watts[104]) and watts[90] == pytest.approx(3.0) and watts[399] == pytest.approx(3.0)
    assert long.get_data()[1][95] == pytest.approx(3.0)
    assert set(allowed.get_data()[1]) == {4.0, 2.0} and len(missed.get_data()[0]) == 100
    assert price.lines[0].get_data()[1][-1] == 3.99
    assert [label.get_text() for label in choices.get_yticklabels()] == ["rgb224", "held"]
    assert path.stat().st_size > 10_000


def test_a_stream_without_steps_leaves_no_picture_of_nothing(tmp_path: Path) -> None:
    with PowerPlot(tmp_path / "power.png"):
        pass
    assert not (tmp_path / "power.png").exists()


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(
        AdaptiveVideoError, match=r"matplotlib is not installed; pip install '\.\[plot\]' in a clone"
    ):
        PowerPlot(tmp_path / "power.png").__enter__()
