"""The action space: options, their groups, and the steps at which they are chosen."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import Annotated, Self

from pydantic import Field, model_validator

from runtimes.spec.base import Name, Spec


class Option(Spec):
    """One thing that may be chosen at a step: a branch, the policy's own head, or a skip.

    * branch: ``graph`` is run on ``view``;
    * policy head: ``graph`` is the policy's own graph, whose ``logits`` this step already has;
    * skip: ``skip`` = k > 0, no output at this step, and neither policy nor branch at the k - 1 after it.
    """

    name: Name
    graph: Name | None = None
    view: Name | None = None
    precision: str | None = None
    skip: Annotated[int, Field(ge=0, le=64)] = 0

    @model_validator(mode="after")
    def _branch_or_skip(self) -> Self:
        if (self.skip > 0) == (self.graph is not None):
            raise ValueError(f"option {self.name}: give either a graph or a skip")
        if self.graph is not None and (self.view is None or self.precision is None):
            raise ValueError(f"option {self.name}: a branch needs a view and a precision")
        return self


class Group(Spec):
    """Options of which exactly one is chosen at a step.

    ``optional``: the model has learned to do without what the group's views are made of.
    """

    name: Name
    options: Annotated[tuple[Option, ...], Field(min_length=1)]
    optional: bool = False

    @model_validator(mode="after")
    def _unique_and_not_all_skips(self) -> Self:
        names = [option.name for option in self.options]
        if len(set(names)) != len(names):
            raise ValueError(f"group {self.name}: option names repeat")
        if all(option.skip for option in self.options):
            raise ValueError(f"group {self.name}: every option is a skip")
        return self


class ActionSpace(Spec):
    """The groups of a model; the policy's scores run over all options, group after group."""

    groups: Annotated[tuple[Group, ...], Field(min_length=1)]

    @property
    def options(self) -> tuple[Option, ...]:
        """All options in the order of the policy's scores."""
        return tuple(option for group in self.groups for option in group.options)

    @property
    def slices(self) -> tuple[slice, ...]:
        """Where each group's options lie among all."""
        bounds = accumulate((len(group.options) for group in self.groups), initial=0)
        return tuple(slice(first, after) for first, after in pairwise(bounds))

    @property
    def saved_runs(self) -> tuple[float, ...]:
        """For each option, how many runs of the policy it saves: a skip of k the k - 1 of the steps it holds.

        Of several groups all must skip for that: each has its share.
        """
        return tuple(max(option.skip - 1, 0) / len(self.groups) for option in self.options)
