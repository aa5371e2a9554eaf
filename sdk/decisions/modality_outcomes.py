"""Which groups of options a step lacks, and what became of each."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from runtimes.spec import Group, Option
from sdk.decisions.decision import Decision
from sdk.media.absence import Absence
from sdk.results import ASLEEP, HELD, NOT_CHOSEN, RAN, THROTTLED


class ModalityOutcomes:
    """Which groups can be chosen at a step, and what became of each.

    What most steps say is put together once: later it is only looked up.
    """

    def __init__(self, groups: tuple[Group, ...]) -> None:
        self.groups = groups
        self._all_present = (True,) * len(groups)
        self._known: dict[str, Mapping[str, str]] = {
            choice: {group.name: choice for group in groups} for choice in (HELD, ASLEEP, THROTTLED)
        }

    def missing(self, absent_views: Collection[str]) -> list[Group]:
        """The groups whose views are all absent."""
        return [
            group
            for group in self.groups
            if all(option.view in absent_views for option in group.options if option.graph)
        ]

    def absence(self, group: Group, absent_views: Mapping[str, Absence]) -> Absence:
        """Why the views of a group are absent."""
        return next(absent_views[o.view] for o in group.options if o.view and o.view in absent_views)

    def presence(self, absent_views: Collection[str]) -> tuple[bool, ...]:
        """Of each group whether any of its views is there."""
        if not absent_views:
            return self._all_present
        missing = self.missing(absent_views)
        return tuple(group not in missing for group in self.groups)

    def at(
        self,
        decision: Decision,
        absent_views: Mapping[str, Absence],
        failures: Mapping[str, Absence],
    ) -> Mapping[str, str]:
        """What became of each group at a step, by its name."""
        name = decision.name
        if name in (HELD, ASLEEP, THROTTLED) or not (absent_views or failures):
            # By name: to hash an option is to hash all that it says.
            if name not in self._known:
                self._known[name] = self._outcomes(decision.options)
            return self._known[name]
        missing = {group.name: self.absence(group, absent_views) for group in self.missing(absent_views)}
        lacking = {group: str(absence) for group, absence in {**missing, **failures}.items()}
        return {**self._outcomes(decision.options), **lacking}

    def _outcomes(self, options: tuple[Option, ...]) -> dict[str, str]:
        return {
            group.name: RAN if any(o in options for o in group.options if o.graph) else NOT_CHOSEN
            for group in self.groups
        }
