"""What the device's options really cost, learned from its meter while a stream runs.

From one span to the next the power changes by what other options take, and by whatever else the device does.
So costs are fitted to *changes*: of two spans in which the same ran, nothing is learned of the costs, and the
power of all else follows what is left. The bundle's cost table is the prior: first one factor that all its
costs share is fitted, then what each is off beside that, held near zero. What one option is measured to take
therefore says something of the others, too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sdk.budget.metered_energy import LAGS_S, Span

Floats = NDArray[np.float64]

_SHARED_SPREAD, _KNOWN_SPREAD = 10.0, 0.3
"""How far, relative to it, the common factor may be off: where the table has other units, and energies."""
_OWN_SPREAD = 0.15
"""How far each cost may be off beside that."""
_MEMORY = 0.98
"""What a span still counts when the next has come: half of it is forgotten in 34."""
_READING_SPREAD, _LEAST_READING_SPREAD = 0.05, 0.01
"""How far the meter's power may be off, relative to it, before its own record says; and at least."""
_SURPRISE, _ALIKE = 3.0, 0.1
"""A change that is off by so many deviations, while what ran cost nearly the same, is something else's."""
_SETTLING = 0.35
"""By how much of the difference the power of all else follows what is left, if that is no surprise."""
_LEAST, _LEAST_FACTOR = 0.3, 0.1
"""Of its share, what an option costs at least; of its first value, the common factor: noise frees nothing."""


class CostEstimator:
    """Energies (J) of the policy and of each option, and the power (W) of all else.

    ``prior`` (1 + n,): costs of the policy, then of the options, 0 for what costs nothing (heads, skips),
    which then is not learned; ``run_s`` (1 + n,): how long they take. ``in_mj``: the costs are energies that
    were measured on this device; else they are relative, in any unit.
    """

    def __init__(self, prior: Floats, run_s: Floats, *, in_mj: bool = False) -> None:
        self._prior = np.asarray(prior, np.float64) * (1e-3 if in_mj else 1.0)
        self._run_s = run_s
        self._spread = _KNOWN_SPREAD if in_mj else _SHARED_SPREAD
        self._factor: float | None = 1.0 if in_mj else None
        self._learned = np.flatnonzero(self._prior)
        self._changes: _Changes | None = None
        self.energies_j = self._prior * (self._factor or 0.0)
        """Energy (J) of one run of the policy, then of each option (1 + n,)."""
        self.base_w = 0.0
        """Power (W) of all that is neither policy nor option: the idle device, decoding, other programs."""

    @property
    def known(self) -> bool:
        """Whether anything has been learned from a span."""
        return self._changes is not None

    @property
    def lag_s(self) -> float:
        """How much later than it is used the meter seems to report energy."""
        return 0.0 if self._changes is None else LAGS_S[self._changes.lag]

    def observe(self, span: Span) -> bool:
        """Take in a span. Whether it was a surprise that the choices do not explain.

        Then something else on the device has begun or ended.
        """
        power_w, rates = span.energy_j / span.seconds, span.runs / span.seconds
        if self._changes is None:
            self._begin(power_w, rates)
            return False
        changes = self._changes
        changed_w, change = changes.next(power_w, rates)
        off_w = abs(changed_w - float(self.energies_j @ change[changes.lag]))
        surprised = off_w > _SURPRISE * changes.off_w and self._as_before(rates, change)
        if not surprised:
            changes.record(changed_w, change)
            changes.find_lag(self._prior, _LEAST_READING_SPREAD * power_w)
            self._fit(changes)
        rest_w = power_w - float(self.energies_j @ rates[changes.lag])
        self.base_w = max(self.base_w + (1.0 if surprised else _SETTLING) * (rest_w - self.base_w), 0.0)
        return surprised

    def _as_before(self, rates: Floats, change: Floats) -> bool:
        """Whether much the same ran as in the span before, whatever the meter's lag."""
        return bool((np.abs(change @ self._prior) < _ALIKE * (rates @ self._prior)).all())

    def _begin(self, power_w: float, rates: Floats) -> None:
        """The first span sets the factor, if the table does not: a busy device may take twice as much."""
        if self._factor is None:
            ran = rates[0] if rates[0].any() else np.ones(len(self._prior))
            busy, unit_w = float(self._run_s @ ran), float(self._prior @ ran)
            busy_w = power_w * busy / (1 + float(self._run_s @ rates[0]))
            self._factor = busy_w / unit_w if unit_w > 0 else 1e-3
        self.energies_j = self._factor * self._prior
        self.base_w = max(power_w - float(self.energies_j @ rates[0]), 0.0)
        self._changes = _Changes(power_w, rates, _READING_SPREAD * power_w)

    def _fit(self, changes: _Changes) -> None:
        """Ridge regression: the factor that all costs share first, then what each is off beside it."""
        assert self._factor is not None, "the first span has set it"
        seen, together, noise = changes.seen[changes.lag], changes.together[changes.lag], changes.off_w**2
        held = (self._spread * self._factor) ** -2.0
        weight = float(self._prior @ seen @ self._prior) / noise + held
        factor = (float(self._prior @ together) / noise + self._factor * held) / weight
        costs = max(factor, _LEAST_FACTOR * self._factor) * self._prior
        learned = self._learned
        own = seen[np.ix_(learned, learned)] / noise + np.diag((_OWN_SPREAD * costs[learned]) ** -2.0)
        left = (together - seen @ costs)[learned] / noise
        costs[learned] = np.maximum(costs[learned] + np.linalg.solve(own, left), _LEAST * costs[learned])
        self.energies_j = costs


class _Changes:
    """What changed from span to span, summed up for every lag that the meter may have.

    ``lag``: the place of the lag that fits best, ``off_w``: the deviation that is left then. ``seen``
    (lags, 1 + n, 1 + n) and ``together`` (lags, 1 + n): products of the changes in what ran with themselves,
    and with those in power.
    """

    def __init__(self, power_w: float, rates: Floats, off_w: float) -> None:
        self.lag, self.off_w = 0, off_w
        lags, size = rates.shape
        self.seen, self.together = np.zeros((lags, size, size)), np.zeros((lags, size))
        self._square, self._count = off_w**2, 1.0
        self._last = power_w, rates

    def next(self, power_w: float, rates: Floats) -> tuple[float, Floats]:
        """The change in power (W) since the span before, and in what ran by lag (lags, 1 + n)."""
        (last_w, last_rates), self._last = self._last, (power_w, rates)
        return power_w - last_w, rates - last_rates

    def record(self, changed_w: float, change: Floats) -> None:
        """Sum up a change; older ones count a little less."""
        self.seen = _MEMORY * self.seen + change[:, :, None] * change[:, None, :]
        self.together = _MEMORY * self.together + changed_w * change
        self._square = _MEMORY * self._square + changed_w**2
        self._count = _MEMORY * self._count + 1

    def find_lag(self, prior: Floats, least_w: float) -> None:
        """Find the lag at which one factor for all costs explains most."""
        explained = (self.together @ prior) ** 2 / np.maximum(prior @ self.seen @ prior, 1e-30)
        self.lag = int(explained.argmax())
        self.off_w = max(float((self._square - explained[self.lag]) / self._count), least_w**2) ** 0.5
