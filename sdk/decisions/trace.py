"""How one step was decided: what a controller learns from, and what a log keeps."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtimes.spec import Option


@dataclass(frozen=True, slots=True)
class StepTrace:
    """One step's decision.

    ``scores`` (n,) over all options, None where the policy was not run; ``price`` at which it was decided;
    ``allow_skip``: whether all groups might skip; ``absent_views``: what could not be chosen. ``options``:
    what was chosen, one of each group, none where the step was held; ``withheld``: held for the budget.
    ``policy_ms`` with its views, ``option_ms`` of each chosen option with its view, ``step_ms`` of all.
    """

    scores: NDArray[np.floating] | None
    price: float
    allow_skip: bool
    absent_views: Collection[str]
    options: tuple[Option, ...]
    withheld: bool
    policy_ms: float
    option_ms: tuple[float, ...]
    step_ms: float
