"""Operating points: measured ways to run a variant, and the front of them that a price moves along."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from runtimes.spec.base import Name, Spec

Share = Annotated[float, Field(ge=0, le=1)]
Cost = Annotated[float, Field(ge=0)]

LookName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*(\+[A-Za-z0-9][A-Za-z0-9_.\-]*)*$")]
"""What runs at a look: the names of branches, of each group one at most, joined by ``+``."""


class LookFusion(Spec):
    """Fuses the looks at a clip: softmax of their scaled logits' sum over (their weights' sum) ** exponent.

    ``scales`` and ``weights`` by look; exponent 1 is a mean, 0 a sum. As fitted, the result is calibrated: it
    is as sure as it is right, after any number of looks.
    """

    scales: dict[LookName, Annotated[float, Field(gt=0)]]
    weights: dict[LookName, Annotated[float, Field(gt=0)]]
    exponent: Share

    @model_validator(mode="after")
    def _same_looks(self) -> Self:
        if self.scales.keys() != self.weights.keys():
            raise ValueError("the scales and weights of a look fusion are not of the same looks")
        return self


class StopRule(Spec):
    """When to look no more: after look k, if the two best scores differ by the k-th margin at least.

    ``agreeing`` holds where the look left the best label as it was, ``differing`` elsewhere and after the
    first look; a margin above 1 is never reached. One margin for every look but the last.
    """

    agreeing: tuple[Annotated[float, Field(ge=0)], ...]
    differing: tuple[Annotated[float, Field(ge=0)], ...]

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if len(self.agreeing) != len(self.differing):
            raise ValueError("a stop rule needs both margins after every look")
        return self

    def stops(self, looks: int, margin: float, agrees: bool) -> bool:
        """Whether to stop after so many looks, 1 or more."""
        if looks > len(self.agreeing):
            return True
        return margin >= (self.agreeing if agrees else self.differing)[looks - 1]


class Interval(Spec):
    """A mean over clips with its 95 % interval, by bootstrap over groups of clips."""

    mean: float
    low: float
    high: float


class OperatingPoint(Spec):
    """One way to run a variant, and what it came to on clips that nothing of it was fitted on.

    ``kind``: a ``schedule`` runs ``looks``, in order, at evenly spaced steps of a clip (of a stream: of every
    ``clip_steps`` steps, from its first step on); one with a ``stop`` rule may leave after each of them
    (``stopping``); ``learned`` is the policy at ``price``. ``runs``: the mean number a clip of runs of each
    graph (as ``graph@view``) and of renderings of each view. ``ms``, ``mj``: what these cost a clip by the
    table of the device that it was compiled on. ``true_probability``: of the clip's own
    class, the scores calibrated by ``temperature``. ``memory_steps``: in a stream the answer is of the looks
    in so many steps, None: in as many as a clip has.
    """

    name: Annotated[str, Field(min_length=1, max_length=200)]
    kind: Literal["schedule", "stopping", "learned"]
    looks: tuple[LookName, ...] = ()
    stop: StopRule | None = None
    memory_steps: Annotated[int, Field(ge=1)] | None = None
    price: Cost | None = None
    temperature: Annotated[float, Field(gt=0)] | None = None
    runs: dict[str, Cost]
    accuracy: Interval
    true_probability: Interval
    ms: Cost
    mj: Cost | None = None
    admitted_as: Literal["better", "cheaper twin"] | None = None
    """Why a point that is no schedule is there."""

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        learned = self.kind == "learned"
        if learned == bool(self.looks) or learned != (self.price is not None):
            raise ValueError(f"point {self.name}: a learned one has a price, any other has looks")
        if (self.kind == "stopping") != (self.stop is not None):
            raise ValueError(f"point {self.name}: a stop rule is what makes a point a stopping one")
        if self.stop is not None and len(self.stop.agreeing) != len(self.looks) - 1:
            raise ValueError(f"point {self.name}: its stop rule is not for {len(self.looks)} looks")
        if self.memory_steps is not None and self.kind != "schedule":
            raise ValueError(f"point {self.name}: only a schedule remembers for so many steps")
        if (self.kind == "schedule") != (self.admitted_as is None):
            raise ValueError(f"point {self.name}: schedules need no admission, and others do")
        return self


class OperatingFront(Spec):
    """The points of a variant that no other, nor sharing time between two others, beats; by rising cost.

    ``default``: the point that runs where nothing is asked for. ``fusion``: of the looks. ``dense``: the most
    expensive look at every step, as a model that is not adaptive would run. ``schedules``: names of those
    that are the front without anything else. ``judged_on``: on which clips. ``optimism``: by how much the
    front's probability of the true class falls when it is chosen on one half of these clips and judged on
    the other.
    """

    variant: Name
    fusion: LookFusion
    points: Annotated[tuple[OperatingPoint, ...], Field(min_length=1)]
    default: str
    dense: OperatingPoint
    schedules: tuple[str, ...] = ()
    judged_on: str
    optimism: float = 0.0

    @model_validator(mode="after")
    def _is_a_front(self) -> Self:
        names = [point.name for point in self.points]
        if len(set(names)) != len(names):
            raise ValueError(f"front of {self.variant}: names of points repeat")
        if self.default not in names:
            raise ValueError(f"front of {self.variant}: its default {self.default} is not among its points")
        for one, other in pairwise(self.points):
            if other.true_probability.mean <= one.true_probability.mean:
                raise ValueError(f"front of {self.variant}: {other.name} is not better than {one.name}")
        looks = {look for point in self.points for look in point.looks}
        if not looks <= self.fusion.scales.keys():
            raise ValueError(f"front of {self.variant}: its fusion lacks some of its looks")
        return self

    def point(self, name: str) -> OperatingPoint:
        """The point called ``name``. Raises: KeyError if there is none."""
        return {point.name: point for point in self.points}[name]
