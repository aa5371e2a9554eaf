"""What a budget may be, as text and as numbers."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdk import Budget, BudgetError


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("5W", Budget(watts=5)),
        ("800mW", Budget(watts=0.8)),
        ("5 W, 20ms", Budget(watts=5, latency_ms=20)),
        ("0.5s;70C", Budget(latency_ms=500, thermal_c=70)),
        ("70°C 3h", Budget(thermal_c=70, battery_hours=3)),
        ("90min", Budget(battery_hours=1.5)),
        ("1e-1W", Budget(watts=0.1)),
    ],
)
def test_text(text: str, budget: Budget) -> None:
    assert Budget.parse(text) == budget


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("5", "has no unit; write it with one of"),
        ("5Watt", "is not a number with a unit"),
        ("W", "is not a number with a unit"),
        ("five W", "is not a number with a unit"),
        ("", "limits nothing"),
        ("5W,6W", "says watts twice"),
        ("-3W", "not a number above 0"),
        ("0W", "not a number above 0"),
        ("1e9W", "up to 10000"),
        ("200C", "up to 150"),
    ],
)
def test_text_that_means_nothing(text: str, complaint: str) -> None:
    with pytest.raises(BudgetError, match=complaint):
        Budget.parse(text)


@pytest.mark.parametrize("watts", [0, -1.0, math.nan, math.inf, True, "5", 1e6])
def test_numbers_that_are_none(watts: object) -> None:
    with pytest.raises(BudgetError, match="budget watts"):
        Budget(watts=watts)  # type: ignore[arg-type]


def test_nothing_is_no_budget() -> None:
    with pytest.raises(BudgetError, match="limits nothing; give one of watts, latency_ms"):
        Budget()


NUMBERS = st.one_of(st.none(), st.floats(0.001, 100))


@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS)
def test_what_is_printed_can_be_read(
    watts: float | None, latency_ms: float | None, thermal_c: float | None, hours: float | None
) -> None:
    if watts is latency_ms is thermal_c is hours is None:
        return
    budget = Budget(watts, latency_ms, thermal_c, hours)
    again = Budget.parse(str(budget).replace(" of battery", ""))
    for name in ("watts", "latency_ms", "thermal_c", "battery_hours"):
        wanted = getattr(budget, name)
        assert getattr(again, name) == (None if wanted is None else pytest.approx(wanted, rel=1e-5))
