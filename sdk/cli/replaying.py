"""``adaptive-run --replay``: the choices of a log made again, and what differs."""

from __future__ import annotations

import sys
from pathlib import Path

from runtimes.words import counted
from sdk.cli.command import FAILED_LIMIT, fail
from sdk.errors import RecordingError
from sdk.recording.replay import ReplayedStep, breaks_off, replay

_SHOWN_DIFFERENCES = 5


def replay_log(path: Path) -> int:
    """Compare each step and show the first differences; the exit status.

    Raises: RecordingError if the file is no log, or is damaged: after what could be compared.
    """
    steps: list[ReplayedStep] = []
    try:
        for step in replay(path):
            steps.append(step)
        if breaks_off(path):
            print(f"{path}: breaks off: its end is missing, so the stream was interrupted", file=sys.stderr)
    except RecordingError:
        if steps:
            _show(steps)
        raise
    differing = _show(steps)
    if not differing:
        return 0
    are = "is" if differing == 1 else "are"
    return fail(f"{path}: {counted(differing, 'step')} {are} decided otherwise", FAILED_LIMIT)


def _show(steps: list[ReplayedStep]) -> int:
    """Print what differs; how many steps do."""
    differing = [step for step in steps if not step.same]
    for step in differing[:_SHOWN_DIFFERENCES]:
        print(f"step {step.step}: plan and choice {step.replayed} where {step.logged} is logged")
    plans, choices = (sum(s.logged[part] != s.replayed[part] for s in differing) for part in (0, 1))
    differ = f"{counted(choices, 'choice')} and {counted(plans, 'plan')} differ"
    print(f"{counted(len(steps), 'step')} decided again: {differ}")
    return len(differing)
