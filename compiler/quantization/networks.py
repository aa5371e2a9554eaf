"""Networks at other precisions: int8 by quantisation-aware training, or all bit-widths of one weight set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import nn
from torch.utils.data import DataLoader

from compiler.bundle_plan import PRECISIONS, StoredCodes
from compiler.data.batches import DrawnFrames, DrawnViews
from compiler.errors import CompileError
from compiler.training.run import fit
from compiler.training.stages import Training, first_layers
from compiler.training.tasks import (
    FrameTask,
    MultiBitTask,
    PolicyDistillTask,
    branch_answer,
    policy_outputs,
    stepwise,
)
from models.backbones.blocks import Backbone
from models.layers import nested
from models.layers.quantization import ActivationFormat, calibrate, freeze, quantise
from models.methods.coquant import Transfer
from models.policies.policy import StepPolicy
from models.recipe import Stage
from models.rollout.adaptive import POLICY, pixels

_CALIBRATION_BATCHES = 8
_FEWEST_CLIPS = 8
"""Calibrating on fewer clips leaves scales to chance."""


@dataclass(frozen=True)
class MultiBit:
    """How a network is made to run at several widths: see layers/nested.py and methods/coquant.py."""

    widths: tuple[int, ...]
    transfer: Transfer
    rule: nested.Rule = "centred"
    low_activations: bool = False
    deviations: float = nested.FOUR_BITS


def integer_networks(
    training: Training,
    parts: Sequence[str],
    activations: ActivationFormat,
    clips: Sequence[int],
    after: str = "",
) -> dict[str, nn.Module]:
    """The frozen int8 network of each of ``parts`` (branches, or POLICY), trained on ``clips``.

    ``after`` names the stage that the float networks come from, if there may be several such.

    Raises: CompileError for too few clips.
    """
    check_clips(clips)
    suffix = f"-{after}" if after else ""
    return {
        part: _integer_network(training, part, activations, clips, f"{activations}-{part}{suffix}")
        for part in parts
    }


def _integer_network(
    training: Training, part: str, activations: ActivationFormat, clips: Sequence[int], name: str
) -> nn.Module:
    """One network quantised, calibrated and pulled to its float self."""
    model, stage = training.model.eval(), training.recipe.qat
    assert stage is not None, "a model with int8 networks has a stage for them"
    training.announce(f"int8: {part}")
    if part == POLICY:
        return _integer_policy(training, activations, clips, name, replace(stage, frames=4 * stage.frames))
    view, classes = model.view_of(part), len(model.labels)
    teacher = model.branches[part]
    network = quantise(teacher, activations)
    drawn = training.frames(view.name, stage.frames, clips, train=True)
    calibrate(network, _runs(network, drawn, stage, training.run.seed))
    task = FrameTask(network, branch_answer, view, stage, classes, teacher=teacher)
    val = training.frames(view.name, stage.frames, training.cache.split("val"), train=False)
    fit(training.run, name, task, drawn, val)
    return freeze(network)


def _integer_policy(
    training: Training, activations: ActivationFormat, clips: Sequence[int], name: str, stage: Stage
) -> nn.Module:
    """The policy quantised, calibrated and pulled to its float self on all its views."""
    model = training.adaptive
    network = quantise(model.policy, activations)
    assert isinstance(network, StepPolicy)
    groups = [len(group.options) for group in model.space.groups]
    classes, dropped = len(model.labels), training.recipe.dropped_modalities
    task = PolicyDistillTask(
        network,
        model.views_of(POLICY),
        groups,
        stage,
        classes,
        model.policy,
        dropped if len(groups) > 1 else 0.0,
    )
    drawn = training.policy_views(stage.frames, clips, train=True)
    calibrate(network, _policy_runs(task, drawn, stage, training.run.seed))
    val = training.policy_views(stage.frames, training.cache.split("val"), train=False)
    fit(training.run, name, task, drawn, val)
    return freeze(network)


def _policy_runs(task: PolicyDistillTask, drawn: DrawnViews, stage: Stage, seed: int) -> Iterator[None]:
    """Run a policy over a few batches of training steps, drawn by the run's seed."""
    torch.manual_seed(seed)
    batches = DataLoader(drawn, stage.batch, shuffle=True)
    for _, batch in zip(range(_CALIBRATION_BATCHES), batches, strict=False):
        images = task.images(batch["views"])
        policy_outputs(task.network, images, batch["available"], *task.told(images))
        yield


def multibit_network(
    training: Training, part: str, multibit: MultiBit, clips: Sequence[int], after: str = ""
) -> Backbone:
    """One branch trained at all widths together on ``clips``; ``after`` as for ``integer_networks``.

    Raises: CompileError for too few clips.
    """
    model, stage = training.model.eval(), training.recipe.multibit
    assert stage is not None, "a model of several bit-widths has a stage for them"
    widths = multibit.widths
    check_clips(clips)
    training.announce(f"bits {', '.join(map(str, widths))}: {part}")
    view = model.view_of(part)
    branch = model.backbones()[part]
    drawn = training.frames(view.name, stage.frames, clips, train=True)
    network = nested.nest(
        branch,
        widths,
        rule=multibit.rule,
        low_activations=multibit.low_activations,
        deviations=multibit.deviations,
    )
    runs = partial(_runs, network, drawn, stage, training.run.seed)
    if stage.frozen_norms:
        nested.estimate_norms(network, widths, runs)
    nested.calibrate(network, widths, runs)
    task = MultiBitTask(
        network,
        widths,
        multibit.transfer,
        view,
        stage,
        len(model.labels),
        frozen=first_layers(network, stage.frozen_layers),
        augmentation=training.recipe.augmentation,
    )
    val = training.frames(view.name, 4, training.cache.split("val"), train=False)
    fit(training.run, f"bits-{part}{'-' if after else ''}{after}", task, drawn, val)
    network.requires_grad_(False)
    return network


def at_precisions(
    network: Backbone, precisions: Sequence[str], activations: ActivationFormat
) -> dict[str, Backbone]:
    """A multi-bit network frozen at each of some precisions."""
    return {name: nested.freeze(network, PRECISIONS[name], activations) for name in precisions}


def codes_of(network: Backbone) -> StoredCodes:
    """What all widths of a multi-bit network share."""
    codes = {name: value.numpy() for name, value in nested.stored_codes(network).items()}
    return StoredCodes(codes, frozenset(nested.whole_layers(network)))


def check_clips(clips: Sequence[int]) -> None:
    """Raises: CompileError if these are too few to calibrate on."""
    if len(clips) < _FEWEST_CLIPS:
        raise CompileError("calibration", f"has {len(clips)} training clips", f"give {_FEWEST_CLIPS} or more")


def _runs(network: nn.Module, drawn: DrawnFrames, stage: Stage, seed: int) -> Iterator[None]:
    """Run a network over a few batches of training frames, drawn by the run's seed."""
    torch.manual_seed(seed)
    batches = DataLoader(drawn, stage.batch, shuffle=True)
    for _, (frames, _) in zip(range(_CALIBRATION_BATCHES), batches, strict=False):
        branch_answer(network, stepwise(pixels(frames.flatten(0, 1), drawn.view), frames))
        yield
