"""How one step was decided: what a controller learns from, and what a log keeps."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdk.decisions.decision import Decision
from sdk.media.signals.signals import Signals


@dataclass(frozen=True, slots=True)
class StepTrace:
    """One step's decision and what it took.

    ``scores`` (n,) over all options, None where the policy was not run; ``absent_views``: what could not be
    chosen. ``policy_ms`` with its views, ``option_ms`` of each chosen option with its view, ``step_ms`` of
    all. ``point``: the operating point that the plan named; ``answer`` (classes,): the stream's scores before
    the step, by which it may have looked no more. ``signals``: what a watch went by, if there is one.
    """

    decision: Decision
    scores: NDArray[np.floating] | None
    absent_views: Collection[str]
    policy_ms: float
    option_ms: tuple[float, ...]
    step_ms: float
    point: str | None = None
    answer: NDArray[np.floating] | None = None
    signals: Signals | None = None
