"""Which candidate precisions stay: what costs no less than something more accurate is dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import nan, sqrt

from pydantic import JsonValue

SAME_COST = 0.03
"""Costs closer than this share are taken as equal: measurements on a busy machine vary by as much."""


@dataclass(frozen=True)
class CandidateCost:
    """A branch at a precision: accuracy on held-out training clips, ms and mJ on its view, what it stores.

    ``mj``: None where it was not measured.
    ``validation``: accuracy on every step of the validation clips, measured last, as they decide nothing.
    """

    branch: str
    precision: str
    bits: int
    accuracy: float
    clips: int
    ms: float
    megabytes: float
    macs: int
    mj: float | None = None
    validation: float = nan

    @property
    def name(self) -> str:
        """What the branch at this precision is called."""
        return f"{self.branch}-{self.precision}"

    @property
    def int8_equivalent_macs(self) -> float:
        """MACs of one run times min(bits, 8)^2 / 64: the papers' law of BitOps, relative to int8; no time."""
        return self.macs * modeled_cost(self.bits)

    def to_json(self) -> dict[str, JsonValue]:
        """For the manifest."""
        return {**asdict(self), "int8_equivalent_macs": self.int8_equivalent_macs}


def modeled_cost(bits: int) -> float:
    """The papers' cost of a bit-width, relative to 8 bits (float counts as 8): b^2 / 64."""
    return min(bits, 8) ** 2 / 64


def drop_worse(measured: Sequence[CandidateCost]) -> tuple[list[CandidateCost], list[str]]:
    """What is worth keeping, and one line for each that is not.

    The precisions of a branch are taken by falling bits, each compared with those kept so far. One goes if
    another is at least as accurate and costs less. Of two that cost the same the more accurate one stays,
    but one of fewer bits must lead by more than the standard error.
    """
    kept: list[CandidateCost] = []
    lines: dict[str, str] = {}
    for one in sorted(measured, key=lambda o: -o.bits):
        better = next((o for o in kept if o.branch == one.branch and _dominates(o, one)), None)
        if better is not None:
            lines[one.name] = _line(one, better)
            continue
        for worse in [o for o in kept if o.branch == one.branch and _dominates(one, o)]:
            kept.remove(worse)
            lines[worse.name] = _line(worse, one)
        kept.append(one)
    order = [one.name for one in measured]
    return sorted(kept, key=lambda o: order.index(o.name)), [lines[name] for name in order if name in lines]


def _line(one: CandidateCost, better: CandidateCost) -> str:
    return (
        f"dropped {one.branch} in {one.precision}: {_facts(one)} on the clips that decide, "
        f"where {better.precision} has {_facts(better)}{_caveat(one, better)}"
    )


def _caveat(one: CandidateCost, better: CandidateCost) -> str:
    return f" (no more than the error of {one.clips} clips)" if one.accuracy > better.accuracy else ""


def _facts(one: CandidateCost) -> str:
    return f"{one.ms:.2f} ms and {one.accuracy:.1%}"


def _dominates(rival: CandidateCost, one: CandidateCost) -> bool:
    cheaper = rival.ms < one.ms * (1 - SAME_COST)
    alike = not cheaper and rival.ms <= one.ms * (1 + SAME_COST)
    if not alike:
        return cheaper and rival.accuracy >= one.accuracy
    lead = rival.accuracy - one.accuracy
    return lead >= -_standard_error(rival) if rival.bits > one.bits else lead > _standard_error(one)


def _standard_error(one: CandidateCost) -> float:
    return sqrt(one.accuracy * (1 - one.accuracy) / one.clips)
