"""Gates: checks that a compile must pass before its bundle is worth having; each says what it saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compiler.errors import CompileError


@dataclass(frozen=True)
class Gate:
    """One check: what it compared, what it saw, and whether that is good enough."""

    name: str
    saw: str
    passed: bool


def require(gates: Sequence[Gate]) -> None:
    """Raises: CompileError that names the gates that did not pass and what they saw."""
    failed = [gate for gate in gates if not gate.passed]
    if failed:
        seen = "; ".join(f"{gate.name}: {gate.saw}" for gate in failed)
        raise CompileError("verification", seen, "no bundle was written; the trained weights are kept")
