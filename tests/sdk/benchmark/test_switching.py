"""What changing the branch costs: every branch runs as often both ways, and the order differs."""

from __future__ import annotations

from itertools import count

import pytest

from sdk.benchmark.switching import SwitchCost, measure_switching
from sdk.cli.bench import _switching_line


def test_both_ways_run_the_same_and_only_the_order_differs() -> None:
    ran: list[str] = []
    cost = measure_switching({"a": lambda: ran.append("a"), "b": lambda: ran.append("b")}, runs=3)
    assert cost is not None and cost.branches == ("a", "b")
    # Every timing begins with one run that is not counted.
    timings = ["".join(ran[i + 1 : i + 7]) for i in range(0, len(ran), 7)]
    assert sorted(timings) == ["aaabbb"] * 5 + ["ababab"] * 5
    assert timings[:4] == ["ababab", "aaabbb", "aaabbb", "ababab"]


def test_a_switch_that_costs_shows() -> None:
    """A clock that only moves when the branch is another than the last."""
    last = [""]
    now = [0.0]

    def run(name: str) -> None:
        now[0] += 1.0 + (0.5 if name != last[0] else 0.0)
        last[0] = name

    cost = measure_switching({"a": lambda: run("a"), "b": lambda: run("b")}, 10, lambda: now[0])
    assert cost is not None
    assert cost.staying_ms == pytest.approx(2050)  # one change in twenty
    assert cost.changing_ms == pytest.approx(2950)
    assert cost.ratio == pytest.approx(2950 / 2050) and cost.spread == pytest.approx(0)
    assert cost.differs


def test_what_is_within_the_spread_is_no_difference() -> None:
    assert not SwitchCost(("a", "b"), 10.0, 2.21, 0.221, 0.4).differs
    assert "no difference within ± 80.0%" in _switching_line(SwitchCost(("a", "b"), 10.0, 2.21, 0.221, 0.4))


def test_one_branch_has_nothing_to_change_to() -> None:
    runs = count()
    assert measure_switching({"a": lambda: next(runs)}, 3) is None
    assert next(runs) == 0
