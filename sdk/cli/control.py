"""A file that says the budget while a stream runs: write ``5W`` into it, ``3W,20ms``, or ``off``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from sdk.budget.budget import Budget, BudgetError

_OFF = "off"


class ControlFile:
    """Looks at the file, and sets the budget when what it says changes.

    A file that is not there (any more), or says nothing that can be meant, changes nothing; either is said on
    stderr, once.
    """

    def __init__(self, path: Path, set_budget: Callable[[Budget | None], None]) -> None:
        self._path, self._set_budget = path, set_budget
        self._seen: tuple[int, int] | None = None
        self._text, self._missed = "", False

    def poll(self) -> None:
        """Set the budget, if the file says another than when it was last looked at."""
        try:
            status = self._path.stat()
            if (status.st_mtime_ns, status.st_size) == self._seen:
                return
            self._seen = status.st_mtime_ns, status.st_size
            text = self._path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            self._miss(error)
            return
        self._missed = False
        if text and text != self._text:
            self._text = text
            self._apply(text)

    def _miss(self, error: OSError | UnicodeDecodeError) -> None:
        if not self._missed:
            reason = (error.strerror or str(error)) if isinstance(error, OSError) else "is not text"
            fix = "the budget stays as it was until 5W, 3W,20ms or off is written there"
            print(f"{self._path}: cannot be read ({reason}); {fix}", file=sys.stderr)
        self._missed = True

    def _apply(self, text: str) -> None:
        try:
            self._set_budget(None if text.lower() == _OFF else Budget.parse(text))
            print(f"budget: {text}", file=sys.stderr)
        except BudgetError as error:
            print(f"{self._path}: {error}; the budget stays as it was", file=sys.stderr)
