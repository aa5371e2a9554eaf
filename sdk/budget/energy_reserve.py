"""The energy reserve, which keeps any 30 s under the budget, whatever is known of the device.

Two bounds hold at once. The *saved energy* grows by what is allowed and shrinks by what is used: it keeps the
average. The *last half minute* is kept as what was used beyond what was allowed, so that what the seconds
before left may be used, and no 30 s that this instant is part of, now or later, end above the limit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WINDOW_S = 30.0
DEPTH_S = 0.03 * WINDOW_S
"""By how many seconds of the power limit any 30 s may exceed it; the rest of the 5 % is for meters."""

_SAVED_S = 2.0
"""The most that is saved beside what the sharing of time needs, in seconds of the power limit."""
_BIN_S = 0.25
_BINS = int(WINDOW_S / _BIN_S)
_FROM_OLDEST = np.arange(_BINS)[::-1]
_SAVINGS_CONFIDENCE = 0.9
"""Of what the cheapest way to run would save in the seconds to come: what a run may count on."""


class EnergyReserve:
    """Joules that may be used now.

    The deficit is bounded: however long a budget could not be kept, steps run again within seconds once it
    can.
    """

    def __init__(self) -> None:
        self.depth_j = 0.0
        """What 30 s may take more than is allowed."""
        self.left_j = 0.0
        """What may be used at once; below 0 a deficit, of one depth at most."""
        # By quarters of a second, the newest first: what was used beyond what was allowed, and what the
        # cheapest way to run is to save until each of them is half a minute old.
        self._excess_j: Floats = np.zeros(_BINS)
        self._saves_j: Floats = np.zeros(_BINS)
        self._bin: int | None = None
        self._saved_j = self._most_saved_j = 0.0
        self._room_j = 0.0

    def set_limit(self, watts: float, cheapest_w: float | None = None, swing_j: float = 0.0) -> None:
        """Set the power limit to ``watts``; ``cheapest_w``: the power of the cheapest way to run, if known.

        ``swing_j``: what one half of a cycle saves for the other.
        """
        share = self._saved_j / self.depth_j if self.depth_j else 1.0
        self.depth_j = watts * DEPTH_S
        self._most_saved_j = watts * _SAVED_S + swing_j
        self._saved_j = min(share * self.depth_j, self._most_saved_j)
        saves_w = 0.0 if cheapest_w is None else max(_SAVINGS_CONFIDENCE * (watts - cheapest_w), 0.0)
        self._saves_j = np.multiply(_FROM_OLDEST, saves_w * _BIN_S)
        self._room_j = self._find_room_j()
        self.left_j = min(self._saved_j, self._room_j)

    def record_use(self, now_s: float, allowed_j: float, used_j: float) -> None:
        """Record what was allowed and what was used since the last time."""
        saved_j = min(self._most_saved_j, self._saved_j + allowed_j - used_j)
        self._saved_j = max(-self.depth_j, saved_j)
        if self._shift(int(now_s / _BIN_S)):
            self._room_j = self._find_room_j()
        room_j = max(self._room_j - (used_j - allowed_j), -self.depth_j)  # a larger deficit is forgotten
        self._excess_j[0] += self._room_j - room_j
        self._room_j = room_j
        self.left_j = min(self._saved_j, room_j)

    @property
    def share(self) -> float:
        """How full it is: 1 if a whole depth or more is left, down to -1 for as large a deficit."""
        return min(self.left_j / self.depth_j, 1.0) if self.depth_j else 1.0

    def _find_room_j(self) -> float:
        """What may be used now, so that each 30 s that this instant is part of stay within one depth.

        The window that ends so many seconds from now keeps the newer bins only, and what is saved until then.
        """
        return self.depth_j - float((np.add.accumulate(self._excess_j) - self._saves_j).max())

    def _shift(self, number: int) -> bool:
        """Make room for the bin of this number. Whether it is a new one."""
        if self._bin is None:
            self._bin = number
        passed = number - self._bin
        if passed <= 0:
            return False
        kept = self._excess_j[: max(_BINS - passed, 0)]
        self._excess_j = np.concatenate([np.zeros(_BINS - len(kept)), kept])
        self._bin = number
        return True
