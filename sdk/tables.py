"""Tables on a terminal, in a file or a pipe: what does not fit is folded, never cut off."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Column, Table

_PIPE_WIDTH = 1000
"""Characters of a line where no terminal limits it: programs and files take lines of any length."""


def table(*names: str, title: str | None = None) -> Table:
    """A table of so many columns, whose cells go on in another line where they are too wide."""
    return Table(*(Column(name, overflow="fold") for name in names), title=title)


def console(*, stderr: bool = False) -> Console:
    """What tables are printed on: as wide as the terminal, or as need be where there is none."""
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(stderr=stderr, highlight=False, width=None if terminal else _PIPE_WIDTH)
