"""Which precisions are worth offering."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler.quantization.pareto import CandidateCost, drop_worse, modeled_cost


def precise(precision: str, bits: int, accuracy: float, ms: float, branch: str = "rgb224") -> CandidateCost:
    return CandidateCost(branch, precision, bits, accuracy, clips=100, ms=ms, megabytes=1.0, macs=1000)


FLOAT, EIGHT = precise("fp32", 32, 0.9, 3.0), precise("int8", 8, 0.89, 1.0)


def kept(*measured: CandidateCost) -> list[str]:
    return [one.precision for one in drop_worse(measured)[0]]


def test_fewer_bits_at_the_same_cost_are_dropped() -> None:
    four = precise("int4", 4, 0.88, 1.01)
    offered, lines = drop_worse([FLOAT, EIGHT, four])
    assert [one.precision for one in offered] == ["fp32", "int8"]
    (line,) = lines
    assert line.startswith("dropped rgb224 in int4: 1.01 ms and 88.0%") and "int8 has 1.00 ms" in line


def test_dearer_and_no_better_is_dropped() -> None:
    assert kept(precise("fp32", 32, 0.89, 3.0), EIGHT) == ["int8"]


def test_fewer_bits_stay_where_they_are_faster_or_clearly_better() -> None:
    assert kept(EIGHT, precise("int4", 4, 0.8, 0.5)) == ["int8", "int4"]
    assert kept(EIGHT, precise("int4", 4, 0.95, 1.0)) == ["int4"]
    assert kept(EIGHT, precise("int4", 4, 0.9, 1.0)) == ["int8"]  # one clip of a hundred is chance


def test_rivals_in_a_circle_leave_one() -> None:
    """8 bits lead 4 and 4 lead 2 within chance, and 2 lead 8 clearly."""
    circle = [
        precise(f"int{bits}", bits, accuracy, 1.0) for bits, accuracy in ((8, 0.80), (4, 0.83), (2, 0.85))
    ]
    assert kept(*circle) == ["int2"]
    assert kept(precise("fp32", 32, 0.9, 3.0), *circle) == ["fp32", "int2"]
    assert kept(*reversed(circle)) == ["int2"]


def test_branches_are_no_rivals() -> None:
    assert kept(EIGHT, precise("int8", 8, 0.95, 0.5, branch="rgb112")) == ["int8", "int8"]


@given(
    st.lists(
        st.tuples(st.sampled_from([2, 4, 8, 32]), st.floats(0.7, 0.9), st.sampled_from([1.0, 1.01, 3.0])),
        min_size=1,
        max_size=4,
        unique_by=lambda entry: entry[0],
    )
)
def test_something_is_always_left(entries: list[tuple[int, float, float]]) -> None:
    measured = [precise(f"b{bits}", bits, accuracy, ms) for bits, accuracy, ms in entries]
    offered, lines = drop_worse(measured)
    assert offered and len(offered) + len(lines) == len(measured)


def test_the_papers_law() -> None:
    assert [modeled_cost(bits) for bits in (32, 8, 4, 2)] == [1.0, 1.0, 0.25, 0.0625]
    assert precise("int4", 4, 0.5, 1.0).int8_equivalent_macs == pytest.approx(250)
