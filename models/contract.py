"""The one contract of adaptive methods: what a paper's file declares, and the compiler runs.

A method declares its presets; its architecture (networks with the views that each sees, the action space, the
policy); its training stages in order; how its branches come at several precisions; which modalities it can
choose from; and its published costs. Nothing outside ``models/`` knows a method by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Protocol, TypeVar, cast

from models.architecture import Architecture
from models.recipe import Recipe
from models.rollout.branch_model import BranchModel
from models.training_plan import TrainingPlan, TrainPolicy, TrainWidths


class Preset(Protocol):
    """What every preset has: a recipe, the numbers that its stages are trained by."""

    @property
    def recipe(self) -> Recipe:
        """The numbers of its training."""
        ...


P = TypeVar("P", bound=Preset)


@dataclass(frozen=True)
class StepTiming:
    """When a method decides.

    ``clip_steps``: steps of a training clip at most. ``rate_hz``: steps a second; None: such that most clips
    fit. ``segment_s``: seconds of pictures and sound that a step sees; 0: a step is a frame.
    """

    clip_steps: int
    rate_hz: float | None = None
    segment_s: float = 0.0


@dataclass(frozen=True)
class ModalityChoice(Generic[P]):
    """Which modalities a method chooses among.

    ``known``: those that a preset has networks for. ``default``: those that it takes unless told otherwise.
    ``restrict``: the preset for just some of them. ``follows_data``: whether it does without sound where the
    clips have none, unless told otherwise.
    """

    known: Callable[[P], tuple[str, ...]]
    default: Callable[[P], tuple[str, ...]]
    restrict: Callable[[P, tuple[str, ...]], P]
    follows_data: bool = False


@dataclass(frozen=True)
class Method(Generic[P]):
    """One adaptive method, declared once, at the end of its file.

    ``presets``: by name. ``architecture``: networks with views, action space and policy of a preset.
    ``plan``: its training stages in order. ``timing``: when it decides. ``chooses_precisions``: whether one
    policy (or the app) chooses among precisions, or the bundle has a variant for each, unless the compile is
    told otherwise. ``modalities``: None if it sees pictures alone. ``published_macs``: multiply-accumulates
    of one run by network of the ``paper`` preset, as its authors state them.
    """

    name: str
    presets: Mapping[str, P]
    architecture: Callable[[P], Architecture]
    plan: Callable[[P], TrainingPlan]
    timing: Callable[[P], StepTiming]
    chooses_precisions: bool = False
    modalities: ModalityChoice[P] | None = None
    published_macs: Mapping[str, int] = field(default_factory=dict)

    def build(self, preset: P, labels: tuple[str, ...]) -> BranchModel:
        """The untrained model of a preset. Raises: ValueError for modalities that make no sense."""
        return self.architecture(preset).build(labels)

    def widths(self, preset: P) -> tuple[int, ...] | None:
        """The bit-widths that one weight set of a preset has; None if int8 is trained apart from fp32."""
        stage = self.plan(preset).find(TrainWidths)
        return None if stage is None else stage.widths

    def has_policy(self, preset: P) -> bool:
        """Whether a preset's options are chosen by a policy, and not by the app."""
        return self.plan(preset).find(TrainPolicy) is not None


def prepared(
    preset: P,
    *,
    pretrained: bool,
    flip: bool | None = None,
    epochs: int | None = None,
    batch: int | None = None,
) -> P:
    """A preset for weights to start from or none; what else is given takes the place of its own."""
    recipe = preset.recipe if pretrained else preset.recipe.from_scratch()
    if flip is not None:
        recipe = replace(recipe, flip=flip)
    changed: P = replace(cast(Any, preset), recipe=recipe.scaled(epochs, batch))
    return changed
