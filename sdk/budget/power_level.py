"""The ways to run that a budget chooses between, with the power that each leads to."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sdk.decisions.trace import StepTrace

Floats = NDArray[np.float64]


class PowerLevel(NamedTuple):
    """A way to run, a price of the policy or an operating point, and the power (W) that it leads to."""

    power_w: float
    price: float
    point: str | None = None

    def same_way(self, other: PowerLevel) -> bool:
        """Whether both run alike, whatever they take."""
        return self[1:] == other[1:]


class Device(NamedTuple):
    """What is known of the device: energies (J) of policy and options (1 + n,), power (W) of all else.

    ``costs`` (n,): relative, by which options are chosen; ``step_s``: seconds from step to step.
    """

    energies_j: Floats
    base_w: float
    costs: NDArray[np.floating]
    step_s: float


class PowerLevels(Protocol):
    """The ways to run of a variant, learned about while they run."""

    @property
    def known(self) -> bool:
        """Whether powers can be predicted yet."""
        ...

    def predict(self, device: Device, current: PowerLevel | None) -> Sequence[PowerLevel]:
        """Those worth running, by rising power, one at least; ``current``: what runs now."""
        ...

    def first(self, app_price: float, energies: Floats) -> PowerLevel:
        """What runs before anything is known; ``energies`` (1 + n,): in any unit."""
        ...

    def standing(self, price: float, point: str | None) -> PowerLevel:
        """What runs where no power is limited: the app's own choice, if it may run."""
        ...

    def is_clip(self, steps: int | None) -> bool:
        """Whether a stream of so many steps (None: not known) is one clip, which runs one way to its end."""
        ...

    def observe(self, now_s: float, trace: StepTrace) -> None:
        """Take in what a step ran."""
        ...

    def restrict(self, graphs: Collection[str], left_ms: float, takes_ms: Floats) -> None:
        """Do without what needs one of these absent ``graphs``, or more than ``left_ms`` at a step.

        ``takes_ms`` (1 + n,): 95th percentiles of the policy and of each option.
        """
        ...
