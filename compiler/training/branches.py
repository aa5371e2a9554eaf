"""Stages that train branches: alone, with their fusion, anew, and on the frames that choose them."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from compiler.data.batches import DrawnFrames, mirrored
from compiler.training.linear_probe import classifier_of, embedded, fit_classifier
from compiler.training.policy.fusion_calibration import fold_scales
from compiler.training.run import fit
from compiler.training.tasks.frames import FrameTask, branch_answer
from compiler.training.tasks.rollout import RolloutTask
from compiler.training.training import States, Training
from models.policies.policy import BackboneClassifier
from models.recipe import Optimization
from models.rollout.adaptive_model import AdaptiveModel
from models.rollout.branch_model import BranchModel, pixels
from models.training_plan import FinetuneBranches, RefitBranches, TrainBackbones, WarmUp


def branch_states(model: BranchModel) -> States:
    """What every branch holds now, to start from once more."""
    return copy.deepcopy({name: branch.state_dict() for name, branch in model.branches.items()})


def train_backbones(training: Training, stage: TrainBackbones) -> None:
    """Each branch alone on its view, and the policy's backbones likewise, with its own head if it has one."""
    for name in training.model.backbones():
        training.announce(f"branches: {name}")
        _train_alone(training, stage.optimization, f"branches-{name}", name, training.clips(stage.clips))
    training.model.requires_grad_(True)


def refit_branches(training: Training, stage: RefitBranches, untrained: States) -> None:
    """The branches anew on all training clips: none need be unseen once the policy has learned.

    ``untrained``: their states before any training, by name.
    """
    model = training.model
    model.requires_grad_(True)
    for name, branch in model.branches.items():
        training.announce(f"branches, all clips: {name}")
        branch.load_state_dict(untrained[name])
        _train_alone(training, stage.optimization, f"refit-{name}", name, training.clips(stage.clips))
    model.requires_grad_(True)


def fold_fusion_scales(model: AdaptiveModel, scales: dict[str, float] | None) -> None:
    """Scale the classifiers of branches that were made anew as the policy's stage found for the old ones."""
    if scales is not None:
        fold_scales(model, {name: scales[name] for name in model.branches})


def warm_up(training: Training, stage: WarmUp, costs: Tensor) -> None:
    """The branches and their fusion together, every group running at every step."""
    training.announce("warm-up")
    task = _branches_task(training, stage, costs, dense=True)
    train_clips = training.clip_steps(training.clips(stage.clips), train=True)
    fit(training.run, "warmup", task, train_clips, training.clip_steps(training.watched_clips(), train=False))
    training.model.requires_grad_(True)


def finetune_branches(training: Training, stage: FinetuneBranches, costs: Tensor) -> None:
    """The branches on the frames that choose them, of all training clips; the policy stays as it is."""
    model = training.adaptive
    training.announce("branch fine-tune")
    task = _branches_task(training, stage, costs, decided=True)
    for name in model.branches:
        for layer in model.backbones()[name].first_layers(stage.optimization.frozen_layers):
            layer.requires_grad_(False)
    train_clips = training.clip_steps(training.clips(stage.clips), train=True)
    val_clips = training.clip_steps(training.cache.split("val"), train=False)
    fit(training.run, "finetune", task, train_clips, val_clips)
    model.requires_grad_(True)


def _train_alone(
    training: Training, optimization: Optimization, stage_name: str, name: str, clips: Sequence[int]
) -> None:
    """One branch, or a backbone of the policy with a classifier, on some clips."""
    model, view = training.model, training.model.view_of(name)
    network = model.branches[name] if name in model.branches else _as_classifier(training.adaptive, name)
    task = FrameTask(
        network,
        branch_answer,
        view,
        optimization,
        len(model.labels),
        frozen=model.backbones()[name].first_layers(optimization.frozen_layers),
        augmentation=training.plan.augmentation,
    )
    if optimization.probe_decay and not training.run.done(stage_name):
        probed = training.frames(view.name, _PROBED_FRAMES, clips, train=False)
        _probe(network, probed, optimization.probe_decay, both_ways=training.plan.flip)
    drawn = training.frames(view.name, optimization.frames, clips, train=True)
    watched = training.frames(view.name, 4, training.watched_clips(), train=False)
    fit(training.run, stage_name, task, drawn, watched)


def _as_classifier(model: AdaptiveModel, part: str) -> BackboneClassifier:
    """A backbone of the policy with its own head, or with a classifier for this stage alone."""
    place, backbone = model.policy_parts.index(part), model.backbones()[part]
    if place in {view for _, view in model.policy.heads}:
        return BackboneClassifier(backbone, model.policy.classifier(place), dropout=_HEAD_DROPOUT)
    return BackboneClassifier(backbone, nn.Linear(backbone.num_features, len(model.labels)))


def _probe(network: nn.Module, drawn: DrawnFrames, decay: float, *, both_ways: bool) -> None:
    """Fit the classifier of a pretrained network on its features of these frames, mirrored ones too."""
    flips = (False, True) if both_ways else (False,)
    items = [drawn[i] for i in range(len(drawn))]
    view = drawn.view
    images = (
        pixels(mirrored(frames, view) if flip else frames, view) for frames, _ in items for flip in flips
    )
    features = embedded(network, images)
    labels = torch.tensor([label for _, label in items]).repeat_interleave(len(features) // len(items))
    fit_classifier(classifier_of(network), features, labels, decay)


def _branches_task(
    training: Training, stage: WarmUp | FinetuneBranches, costs: Tensor, **how: bool
) -> RolloutTask:
    """The branches and their fusion, rolled out; ``how`` the options are chosen: ``dense`` or ``decided``."""
    model, plan = training.adaptive, training.plan
    return RolloutTask(
        model,
        stage.loss,
        costs,
        stage.optimization,
        [*model.branches.values(), *fusion_of(model)],
        dropped=plan.dropped_modalities,
        augmentation=plan.augmentation,
        **how,
    )


def fusion_of(model: AdaptiveModel) -> list[nn.Module]:
    """The fusion, if it has anything to learn."""
    return [model.late_fusion] if model.late_fusion is not None else []


_PROBED_FRAMES = 4
_HEAD_DROPOUT = 0.2
