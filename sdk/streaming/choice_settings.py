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
from sdk.decisions.watch import Watch
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
    _turns: _Turns | None = None
    """Where points take turns: then these stand, not ``_standing``."""

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
        return self._app_plan.point if self.budget is None else self._plan.point

    @point.setter
    def point(self, name: str) -> None:
        chooser = self._chooser
        if not isinstance(chooser, FrontChoice):
            raise _not_along_points(f"point {name}")
        self._require_no_budget("point")
        self._standing = self._plan = chooser.plan_of(point_named(chooser.front, name), 0.0)
        self._turns = None

    @property
    def cost_share(self) -> float | None:
        """What clips cost on average, as a share of the dense point's cost; None: whatever their point takes.

        May be set at any time. The two operating points next to it take turns: another one may run with each
        clip (``recognize``), or with every so many steps of a stream as the points' clips have. Below the
        cheapest point's cost that one runs, above the most expensive one's that.

        Raises: AdaptiveVideoError on setting if it is no share, there are no points, or there is a budget;
        BundleError if no costs are known.
        """
        turns = self._turns
        return None if turns is None else turns.share

    @cost_share.setter
    def cost_share(self, share: float) -> None:
        chooser = self._chooser
        if not isinstance(chooser, FrontChoice):
            raise _not_along_points(f"cost_share {share}")
        self._require_no_budget("cost_share")
        before = self._turns
        self._turns = _Turns(share, self._costs.turns_at(share), chooser, before)
        self._plan = self._turns.plan

    @property
    def _app_plan(self) -> Plan:
        """What holds without a budget, at the last step."""
        turns = self._turns
        return self._standing if turns is None else turns.plan

    def _next_app_plan(self) -> Plan:
        """What holds without a budget at the step that is due; of every step it is asked once."""
        turns = self._turns  # the app's thread may take them away meanwhile
        return self._standing if turns is None else turns.next_plan()

    def _begin_turn(self) -> None:
        """A stream or clip begins: with it the next turn."""
        turns = self._turns
        if turns is not None:
            turns.begin()

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
        return self._app_plan.price if self.budget is None else self._plan.price

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
        self._plan, self._turns = self._standing, None

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


def require_watchable(watch: Watch | None, chooser: Chooser) -> None:
    """Raises: ArgumentError if it is not a watch, or nothing that is chosen ever rests."""
    if watch is None:
        return
    if not isinstance(watch, Watch):
        raise ArgumentError(f"watch {watch!r}", "is not a Watch", "use Watch(), or leave it out")
    if not isinstance(chooser, FrontChoice):
        reason = "only operating points rest between looks, and the choice here is not along any"
        raise ArgumentError("watch", reason, "open a bundle that has points, without fixed and random_seed")


class _Turns:
    """Two points in turn, each for a clip, or for as many steps of a stream.

    ``share``: of the dense cost that they take on average; ``plan``: of the point whose turn it is.
    """

    def __init__(self, share: float, turns: PointTurns, chooser: FrontChoice, before: _Turns | None) -> None:
        """``before``: took turns until now, and leaves what it owes. Raises: as ``FrontChoice.plan_of``."""
        self.share, self._points, self._chooser = share, turns, chooser
        self._plans = {point.name: chooser.plan_of(point, 0.0) for point in (turns.lower, turns.upper)}
        self.plan, self._left = self._plans[turns.lower.name], 0
        if before is not None:
            self._points.owed = before._points.owed
            if before.plan.point in self._plans:
                self.plan, self._left = self._plans[before.plan.point], before._left

    def next_plan(self) -> Plan:
        """The plan of the next step."""
        if self._left == 0:
            self.plan = self._plans[self._points.next_point().name]
            self._left = self._chooser.clip_steps
        self._left -= 1
        return self.plan

    def begin(self) -> None:
        """The next step begins another turn."""
        self._left = 0

    def again(self) -> None:
        """The next step begins the same turn once more."""
        self._left = self._chooser.clip_steps


def _not_along_points(given: str) -> ArgumentError:
    reason = "the choice here is not along operating points"
    return ArgumentError(given, reason, "open the bundle without fixed and random_seed")
