"""Where a compile reports what it does."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol


class Console(Protocol):
    """Shows stages, notes and progress."""

    def stage(self, name: str) -> None:
        """A stage begins."""
        ...

    def note(self, text: str) -> None:
        """Something the user should know."""
        ...

    def progress(self, name: str) -> AbstractContextManager[Callable[[int, int], None]]:
        """A progress bar: call what it gives with (done, total)."""
        ...
