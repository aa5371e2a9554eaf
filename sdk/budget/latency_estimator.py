"""How long the policy and each option take on this device, learned from every step."""

from __future__ import annotations

from collections.abc import Sequence

_LEARNING = 0.1
_TO_95_PERCENT = 2.0
"""Mean deviations above the mean below which 95 % of a bell curve lie."""


class _Duration:
    """Running mean and mean deviation of a duration (ms)."""

    def __init__(self, prior_ms: float) -> None:
        self.prior_ms = prior_ms
        self.mean_ms, self.deviation_ms = prior_ms, 0.1 * prior_ms
        self.count = 0

    def record(self, ms: float) -> None:
        self.count += 1
        weight = max(_LEARNING, 1 / self.count)
        self.deviation_ms += weight * (abs(ms - self.mean_ms) - self.deviation_ms) if self.count > 1 else 0.0
        self.mean_ms += weight * (ms - self.mean_ms)

    def p95_ms(self, scale: float) -> float:
        """``scale``: of the prior, as long as nothing was added."""
        if not self.count:
            return scale * self.prior_ms
        return self.mean_ms + _TO_95_PERCENT * self.deviation_ms


class LatencyEstimator:
    """The 95th percentiles (ms) of what a step is made of.

    ``policy_ms``, ``option_ms`` (n,): medians by the cost table, 0 for heads and skips. What has not run yet
    is taken to be as much faster or slower than that as what has.
    """

    def __init__(self, policy_ms: float, option_ms: Sequence[float]) -> None:
        self._policy = _Duration(policy_ms)
        self._options = [_Duration(ms) for ms in option_ms]
        self._rest = _Duration(0.1)

    def record_step(
        self, policy_ms: float | None, spent: Sequence[tuple[int, float]], step_ms: float
    ) -> None:
        """Take in a step: the policy's ms if it ran, each chosen option's place and ms, and all together."""
        if policy_ms is not None:
            self._policy.record(policy_ms)
        for place, ms in spent:
            self._options[place].record(ms)
        self._rest.record(max(step_ms - (policy_ms or 0.0) - sum(ms for _, ms in spent), 0.0))

    @property
    def rest_p95_ms(self) -> float:
        """What a step takes whatever runs: the choice, fusion and result."""
        return self._rest.p95_ms(1.0)

    @property
    def policy_p95_ms(self) -> float:
        """What the policy takes."""
        return self._policy.p95_ms(1.0)

    @property
    def options_p95_ms(self) -> list[float]:
        """What each option takes beside that (n,)."""
        run = [spent for spent in self._options if spent.count and spent.prior_ms > 0]
        scale = sum(s.mean_ms for s in run) / sum(s.prior_ms for s in run) if run else 1.0
        return [option.p95_ms(scale) for option in self._options]
