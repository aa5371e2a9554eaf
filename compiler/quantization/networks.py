"""Networks at other precisions: int8 by quantization-aware training, or all bit-widths of one weight set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import nn
from torch.utils.data import DataLoader

from compiler.bundle_plan import PRECISIONS, StoredCodes
from compiler.data.batches import DrawnFrames, DrawnViews
from compiler.errors import CompileError
from compiler.training.run import fit
from compiler.training.tasks.frames import FrameTask, branch_answer, stepwise
from compiler.training.tasks.policy_distillation import PolicyDistillTask, policy_outputs
from compiler.training.tasks.widths import WidthsTask
from compiler.training.training import Training
from models.backbones.blocks import Backbone
from models.layers import nested_freezing, nested_layers, nesting
from models.layers.quantization import ActivationFormat, calibrate, freeze, quantize
from models.policies.policy import StepPolicy
from models.recipe import Optimization
from models.rollout.branch_model import POLICY, pixels
from models.training_plan import TrainIntegers, TrainWidths

_CALIBRATION_BATCHES = 8
_POLICY_STEPS = 4
"""How many times as many steps of a clip the policy sees as a branch: it has a state to learn by."""
FEWEST_CLIPS = 8
"""Calibrating on fewer clips leaves scales to chance."""


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
    """One network quantized, calibrated and pulled to its float self."""
    model, settings = training.model.eval(), training.plan.require(TrainIntegers).optimization
    training.announce(f"int8: {part}")
    if part == POLICY:
        longer = replace(settings, frames=_POLICY_STEPS * settings.frames)
        return _integer_policy(training, activations, clips, name, longer)
    view, classes = model.view_of(part), len(model.labels)
    teacher = model.branches[part]
    network = quantize(teacher, activations)
    drawn = training.frames(view.name, settings.frames, clips, train=True)
    calibrate(network, _runs(network, drawn, settings, training.run.seed))
    task = FrameTask(network, branch_answer, view, settings, classes, teacher=teacher)
    val = training.frames(view.name, settings.frames, training.cache.split("val"), train=False)
    fit(training.run, name, task, drawn, val)
    return freeze(network)


def _integer_policy(
    training: Training, activations: ActivationFormat, clips: Sequence[int], name: str, settings: Optimization
) -> nn.Module:
    """The policy quantized, calibrated and pulled to its float self on all its views."""
    model = training.adaptive
    network = quantize(model.policy, activations)
    assert isinstance(network, StepPolicy)
    groups = [len(group.options) for group in model.space.groups]
    classes, dropped = len(model.labels), training.plan.dropped_modalities
    task = PolicyDistillTask(
        network,
        model.views_of(POLICY),
        groups,
        settings,
        classes,
        model.policy,
        dropped if len(groups) > 1 else 0.0,
    )
    drawn = training.policy_views(settings.frames, clips, train=True)
    calibrate(network, _policy_runs(task, drawn, settings, training.run.seed))
    val = training.policy_views(settings.frames, training.cache.split("val"), train=False)
    fit(training.run, name, task, drawn, val)
    return freeze(network)


def _policy_runs(
    task: PolicyDistillTask, drawn: DrawnViews, settings: Optimization, seed: int
) -> Iterator[None]:
    """Run a policy over a few batches of training steps, drawn by the run's seed."""
    torch.manual_seed(seed)
    batches = DataLoader(drawn, settings.batch, shuffle=True)
    for _, batch in zip(range(_CALIBRATION_BATCHES), batches, strict=False):
        images = task.images(batch["views"])
        policy_outputs(task.network, images, batch["available"], *task.draw_conditioning(images))
        yield


def multibit_network(
    training: Training, part: str, stage: TrainWidths, clips: Sequence[int], after: str = ""
) -> Backbone:
    """One branch trained at all widths of a stage together on ``clips``; ``after`` as for integers.

    Raises: CompileError for too few clips.
    """
    model, settings, widths = training.model.eval(), stage.optimization, stage.widths
    check_clips(clips)
    training.announce(f"bits {', '.join(map(str, widths))}: {part}")
    view = model.view_of(part)
    branch = model.backbones()[part]
    drawn = training.frames(view.name, settings.frames, clips, train=True)
    network = nesting.nest(
        branch,
        widths,
        rule=stage.rule,
        low_activations=stage.low_activations,
        deviations=stage.deviations,
    )
    runs = partial(_runs, network, drawn, settings, training.run.seed)
    if settings.frozen_norms:
        nesting.estimate_norms(network, widths, runs)
    nesting.calibrate(network, widths, runs)
    task = WidthsTask(
        network,
        widths,
        stage.loss,
        view,
        settings,
        len(model.labels),
        frozen=network.first_layers(settings.frozen_layers),
        augmentation=training.plan.augmentation,
    )
    val = training.frames(view.name, 4, training.cache.split("val"), train=False)
    fit(training.run, f"bits-{part}{'-' if after else ''}{after}", task, drawn, val)
    network.requires_grad_(False)
    return network


def at_precisions(
    network: Backbone, precisions: Sequence[str], activations: ActivationFormat
) -> dict[str, Backbone]:
    """A multi-bit network frozen at each of some precisions."""
    return {name: nested_freezing.freeze(network, PRECISIONS[name], activations) for name in precisions}


def codes_of(network: Backbone) -> StoredCodes:
    """What all widths of a multi-bit network share."""
    codes = {name: value.numpy() for name, value in nested_layers.stored_codes(network).items()}
    return StoredCodes(codes, frozenset(nested_layers.whole_layers(network)))


def check_clips(clips: Sequence[int]) -> None:
    """Raises: CompileError if these are too few to calibrate on."""
    if len(clips) < FEWEST_CLIPS:
        raise CompileError("calibration", f"has {len(clips)} training clips", f"give {FEWEST_CLIPS} or more")


def _runs(network: nn.Module, drawn: DrawnFrames, settings: Optimization, seed: int) -> Iterator[None]:
    """Run a network over a few batches of training frames, drawn by the run's seed."""
    torch.manual_seed(seed)
    batches = DataLoader(drawn, settings.batch, shuffle=True)
    for _, (frames, _) in zip(range(_CALIBRATION_BATCHES), batches, strict=False):
        branch_answer(network, stepwise(pixels(frames.flatten(0, 1), drawn.view), frames))
        yield
