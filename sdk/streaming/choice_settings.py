"""What an app may set of a recognizer while it runs: budget, price, operating point, or a fixed option."""

from __future__ import annotations

import logging
from dataclasses import replace

from runtimes.errors import ArgumentError
from runtimes.spec import Manifest, OperatingPoint, Variant
from sdk.budget.budget import Budget
from sdk.decisions.choosers import Chooser, FixedChoice, LearnedChoice
from sdk.decisions.decision import Plan
from sdk.decisions.points.front_choice import FrontChoice, point_named
from sdk.decisions.points.point_turns import PointTurns
from sdk.decisions.step_pipeline import Pipeline
from sdk.streaming.energy_accounting import EnergyAccounting
from sdk.streaming.variant_costs import VariantCosts

_LOG = logging.getLogger("sdk.recognizer")


class ChoiceSettings:
    """Base of the recognizer: the settings of its chooser, each of which may be changed at any time."""

    variant: Variant
    _manifest: Manifest
    _chooser: Chooser
    _costs: VariantCosts
    _accounting: EnergyAccounting
    _pipeline: Pipeline
    _standing: Plan
    """What holds as long as no budget does."""
    _plan: Plan
    """Of the last step."""
    _turns: PointTurns | None = None
    _cost_share: float | None = None
    _turn_left: int = 0
    """Steps that the point whose turn it is still has."""

    @property
    def points(self) -> tuple[OperatingPoint, ...]:
        """The variant's operating points, from the least to the most expensive; empty if it has none."""
        front = self._manifest.front(self.variant.name)
        return () if front is None else front.points

    @property
    def point(self) -> str | None:
        """The operating point that runs, by name; None where none does. May be set at any time.

        It holds from the next step on. Under a budget it is the budget's, and moves by itself.

        Raises: AdaptiveVideoError on setting if there is none of that name, or a budget.
        """
        return self._standing.point if self.budget is None else self._plan.point

    @point.setter
    def point(self, name: str) -> None:
        chooser = self._chooser
        if not isinstance(chooser, FrontChoice):
            raise _not_along_points(f"point {name}")
        self._require_no_budget("point")
        self._standing = self._plan = chooser.plan_of(point_named(chooser.front, name), 0.0)
        self._turns = self._cost_share = None

    @property
    def cost_share(self) -> float | None:
        """What clips cost on average, as a share of the dense point's cost; None: whatever their point takes.

        May be set at any time. The two operating points next to it take turns: another one may run with each
        clip (``recognize``), or with every so many steps of a stream as the points' clips have. Below the
        cheapest point's cost that one runs, above the most expensive one's that.

        Raises: AdaptiveVideoError on setting if it is no share, there are no points, or there is a budget;
        BundleError if no costs are known.
        """
        return self._cost_share

    @cost_share.setter
    def cost_share(self, share: float) -> None:
        chooser = self._chooser
        if not isinstance(chooser, FrontChoice):
            raise _not_along_points(f"cost_share {share}")
        self._require_no_budget("cost_share")
        turns = self._costs.turns_at(share)
        plans = [chooser.plan_of(point, 0.0) for point in (turns.lower, turns.upper)]
        self._standing = self._plan = plans[0]
        self._turns, self._cost_share, self._turn_left = turns, share, 0

    def _take_turn(self) -> None:
        """Before every step: let the next point stand where points take turns, and one has had its own."""
        if self._turns is None:
            return
        if self._turn_left == 0:
            assert isinstance(self._chooser, FrontChoice), "only points take turns"
            self._standing = self._chooser.plan_of(self._turns.next_point(), 0.0)
            self._turn_left = self._chooser.clip_steps
        self._turn_left -= 1

    @property
    def price(self) -> float:
        """How much of the probability of the right answer all of the dense cost is worth; may be set at any
        time.

        A higher price never runs a more expensive operating point. Of a bundle without points: the score
        that the most expensive option must earn more than a zero-cost one. Under a budget it is the
        budget's, and moves by itself.

        Raises: AdaptiveVideoError on setting if it is negative, the choice here goes by none, or there is a
        budget; BundleError if no costs are known.
        """
        return self._standing.price if self.budget is None else self._plan.price

    @price.setter
    def price(self, price: float) -> None:
        chooser = self._chooser
        if not isinstance(chooser, LearnedChoice | FrontChoice):
            raise ArgumentError("price", "a fixed or random choice has none", "leave it out")
        self._require_no_budget("price")
        checked = self._costs.checked_price(price)
        if isinstance(chooser, FrontChoice):
            self._standing = chooser.plan_of(self._costs.point_at(checked), checked)
        else:
            self._standing = replace(self._standing, price=checked)
        self._plan, self._turns, self._cost_share = self._standing, None, None

    def _require_no_budget(self, what: str) -> None:
        if self.budget is not None:
            raise ArgumentError(what, "the budget sets it", "take the budget away first (None)")

    @property
    def budget(self) -> Budget | None:
        """What the stream may spend; None: whatever the point or the price takes. May be set at any time.

        It holds from the next step on: operating points (of a bundle without any, the policy's prices) share
        time by what the meter says, and where even the cheapest take too much, steps are throttled
        (``budget_met`` is then False). From the step after it is set, files are streamed at their own pace,
        as power is energy over time.

        Raises: BudgetError on setting if nothing here can choose by it, or measure what it limits.
        """
        return self._accounting.budget

    @budget.setter
    def budget(self, budget: Budget | None) -> None:
        self._accounting.budget = budget
        if budget is not None:
            _LOG.info("budget: %s", budget)

    @property
    def fixed(self) -> str | None:
        """The option that is run, at every step or each ``every``-th; None if it is chosen step by step.

        It may be set while a stream runs, and holds from the next step on that is not held: the graphs of
        a variant without a policy are all open, so that the switch takes no time; others open theirs when
        first named.

        Raises: AdaptiveVideoError on setting if there is no such branch, or the choice is not fixed here.
        """
        return self._chooser.option if isinstance(self._chooser, FixedChoice) else None

    @fixed.setter
    def fixed(self, option: str) -> None:
        if not isinstance(self._chooser, FixedChoice):
            raise ArgumentError("fixed", "the choice here is made step by step", "open it with fixed")
        for branch in self._chooser.branches(option):
            self._pipeline.open(branch)
        self._chooser.switch(option)


def _not_along_points(given: str) -> ArgumentError:
    reason = "the choice here is not along operating points"
    return ArgumentError(given, reason, "open the bundle without fixed and random_seed")
