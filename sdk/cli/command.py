"""How a command line starts and how it fails: one line on stderr and an exit status, no traceback."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Callable
from errno import EDQUOT, ENOSPC
from importlib.metadata import version
from typing import Annotated, Any, NoReturn

import typer

from runtimes.engines.native_log import end_quietly
from runtimes.errors import AdaptiveVideoError

FAILED_LIMIT = 1
USER_MISTAKE = 2
_INTERRUPTED = 130


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(version("adaptive-video"))
        raise typer.Exit


Version = Annotated[
    bool,
    typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
]


def run_command(function: Callable[..., Any]) -> NoReturn:
    """Run ``function`` as the program's one command, and exit."""
    atexit.register(end_quietly)
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(function)
    try:
        status = app(standalone_mode=False)
    except AdaptiveVideoError as error:
        status = fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        status = _INTERRUPTED
    except OSError as error:
        if error.errno is None:
            raise
        fix = "free some space" if error.errno in (ENOSPC, EDQUOT) else "check the path and its permissions"
        status = fail(f"{error.filename or 'a file'}: {error.strerror}; {fix}")
    except Exception as error:
        # Usage errors come from click or from typer's own copy of it, by version; both have this method.
        if not hasattr(error, "format_message"):
            raise
        status = fail(error.format_message())
    sys.exit(status)


def fail(message: str, status: int = USER_MISTAKE) -> int:
    """Print one line on stderr and return the exit status."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return status
