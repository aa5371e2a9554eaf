"""Random halves of clips."""

from __future__ import annotations

from compiler.operating_points.front import halves


def test_halves_part_no_group() -> None:
    groups = [f"g{number % 7}" for number in range(50)]
    for side in halves(groups):
        for name in set(groups):
            assert len({value for value, group in zip(side, groups, strict=True) if group == name}) == 1
        assert 0 < side.mean() < 1
