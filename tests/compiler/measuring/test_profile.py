"""The verdict: adaptive against the static front at equal measured cost, in words."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from compiler.measuring.evaluation import Outcome, StaticPoint
from compiler.measuring.profile import Profile, paired_difference, verdict
from runtimes.spec import CostTable, Option

TABLE = CostTable(device="desk", providers=(), threads=1, graphs=(), views=())
CLIPS = 100


def outcome(kind: str, name: str, right: NDArray[np.bool_] | int, ms: float) -> Outcome:
    """Of 100 clips: which are recognized, or how many of the first."""
    correct = np.arange(CLIPS) < right if isinstance(right, int) else right
    point = None
    if " x " in name:
        running, _, count = name.rpartition(" x ")
        point = StaticPoint((Option(name=running, graph="net", view=running, precision="int8"),), int(count))
    return Outcome(name, "int8", kind, correct, np.full(CLIPS, ms), point=point)


def said(adaptive: NDArray[np.bool_] | int, ms: float = 4.0) -> str:
    """The verdict on an adaptive model beside a small and a large static choice."""
    statics = (outcome("static", "rgb112 x 4", 60, 3.0), outcome("static", "rgb224 x 16", 90, 40.0))
    learned = outcome("adaptive", "adaptive", adaptive, ms)
    return verdict(Profile(TABLE, (*statics, learned), (), (), {"int8": "rgb224"}), "int8")


@pytest.mark.parametrize(
    ("right", "words"),
    [(85, " is ahead of "), (62, " is level with "), (60, " is level with "), (30, " is behind ")],
)
def test_verdict(right: int, words: str) -> None:
    line = said(right)
    assert words in line
    assert f"{right:.1f}% at 4.00 ms a clip" in line
    assert "60.0% of rgb112 x 4 (3.00 ms)" in line
    assert "10% of rgb224 x 16's 40.00 ms (90.0%)" in line
    assert sum(word in line for word in (" is ahead of ", " is level with ", " is behind ")) == 1


def test_a_difference_is_paired_clip_by_clip() -> None:
    """Ten more right of a hundred: certain if no clip was lost for them, not if forty were."""
    order = np.arange(CLIPS)
    swapped = (order < 20) | ((order >= 60) & (order < 100)) | ((order >= 20) & (order < 30))
    assert swapped.sum() == 70
    assert " is ahead of " in said(70)
    assert " is level with " in said(swapped)


def test_no_rival_as_cheap() -> None:
    line = said(10, ms=1.0)
    assert "has no static rival as cheap: 10.0% at 1.00 ms a clip" in line
    assert not re.search("is ahead of|is behind|is level with", line)


def test_energy_is_told_where_it_is_known() -> None:
    static, learned = outcome("static", "rgb112 x 1", 60, 3.0), outcome("adaptive", "adaptive", 80, 4.0)
    known = [replace(one, mj=5 * one.ms) for one in (static, learned)]
    line = verdict(Profile(TABLE, tuple(known), (), (), {"int8": "rgb112"}), "int8")
    assert "80.0% at 4.00 ms, 20.00 mJ a clip" in line and "(3.00 ms, 15.00 mJ)" in line


def test_the_rival_is_the_best_that_costs_no_more() -> None:
    assert "90.0% of rgb224 x 16" in said(91, ms=40.0)
    assert "60.0% of rgb112 x 4" in said(91, ms=39.9)


def test_all_or_nothing_is_a_difference() -> None:
    learned = outcome("adaptive", "adaptive", CLIPS, 3.0)
    static = outcome("static", "rgb112 x 1", 0, 3.0)
    assert " is ahead of " in verdict(Profile(TABLE, (static, learned), (), (), {"int8": "rgb112"}), "int8")


def test_paired_difference_by_hand() -> None:
    one, other = outcome("static", "a", 60, 1.0), outcome("static", "b", 50, 1.0)
    difference, error = paired_difference(one, other)
    assert difference == pytest.approx(0.1)
    assert error == pytest.approx(np.sqrt(0.1 * 0.9 / CLIPS))
