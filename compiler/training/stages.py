"""The float stages of training: branches alone, the policy, the branches again.

Only what a paper's own file says differs between models: its loss, its recipe, its presets.
"""

from __future__ import annotations

import copy
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from compiler.data.batches import (
    ClipOutputs,
    ClipSteps,
    DrawnFrames,
    DrawnViews,
    OutputBatch,
    availability,
    mirrored,
)
from compiler.data.cache import ClipCache
from compiler.training.fixed_schedules import best_schedules
from compiler.training.fusion_calibration import calibrate_fusion, fold_scales
from compiler.training.linear_probe import classifier_of, embedded, fit_classifier
from compiler.training.price_selection import price_curve, save_price
from compiler.training.run import TrainingRun, fit
from compiler.training.soft_targets import dearest_option, dense_targets
from compiler.training.tasks import FrameTask, RolloutLoss, RolloutTask, branch_answer
from models.macs import network_macs
from models.policies.policy import Pupil
from models.recipe import Recipe, Stage
from models.rollout.adaptive import POLICY, AdaptiveModel, BranchModel, pixels, relative_costs

Announce = Callable[[str], None]
"""Told the name of each stage as it starts."""


@dataclass(frozen=True)
class Training:
    """What every stage needs: the model, its recipe and loss, the clips, and where results are kept."""

    model: BranchModel
    recipe: Recipe
    loss: RolloutLoss | None
    cache: ClipCache
    run: TrainingRun
    announce: Announce = lambda stage: None
    name: str = "model"

    def graph(self, part: str, precision: str) -> str:
        """The name of the graph of one part; caches of accelerators go by it, so it names the model too."""
        return f"{self.name}-{part}-{precision}"

    def frames(self, view: str, count: int, clips: Sequence[int], *, train: bool) -> DrawnFrames:
        """Drawn frames of some clips at a view."""
        shape = self.model.views[view]
        return DrawnFrames(self.cache, clips, shape, count, train=train, flip=self.recipe.flip)

    def clip_steps(self, clips: Sequence[int], *, train: bool) -> ClipSteps:
        """Whole clips at every view of the model, mirrored at random if the recipe says so."""
        model = self.model
        flip = train and self.recipe.flip
        return ClipSteps(self.cache, clips, model.views, flip=flip, groups=model.may_lack)

    def policy_views(self, count: int, clips: Sequence[int], *, train: bool) -> DrawnViews:
        """Drawn steps of some clips at the policy's views."""
        views = self.adaptive.views_of(POLICY)
        groups = self.model.branch_views
        return DrawnViews(self.cache, clips, views, groups, count, train=train, flip=self.recipe.flip)

    @property
    def adaptive(self) -> AdaptiveModel:
        """The model, which has a policy."""
        assert isinstance(self.model, AdaptiveModel)
        return self.model

    @property
    def rollout_loss(self) -> RolloutLoss:
        """The loss of the policy's stages."""
        assert self.loss is not None, "a model with a policy has a loss for it"
        return self.loss

    def price_file(self, stage: str = "joint") -> Path:
        """Where the price chosen after a policy's stage is kept."""
        return self.run.folder / ("price.json" if stage == "joint" else f"price-{stage}.json")

    def seen(self) -> list[int]:
        """Training clips that the branches' first stages see."""
        held = set(self.held_out())
        return [clip for clip in self.cache.split("train") if clip not in held]

    def scales_file(self, stage: str = "joint") -> Path:
        """Where the scales of the branches' logits are kept, which a policy's stage fits."""
        return self.run.folder / ("scales.json" if stage == "joint" else f"scales-{stage}.json")

    def held_out(self) -> list[int]:
        """Training clips that the branches' first stage does not see: a fixed share of every class."""
        by_label: dict[str, list[int]] = {}
        for clip in self.cache.split("train"):
            by_label.setdefault(self.cache.clips[clip].label, []).append(clip)
        held: list[int] = []
        for clips in by_label.values():
            held += self._whole_groups(clips, round(len(clips) * self.recipe.holdout))
        return sorted(held)

    def _whole_groups(self, clips: Sequence[int], wanted: int) -> list[int]:
        """About ``wanted`` of the clips, never all: groups (clips of one scene or person) are not parted."""
        groups: dict[str, list[int]] = {}
        # By the hash of their name, not by position.
        for clip in sorted(clips, key=lambda c: (_hash(self._group(c)), c)):
            groups.setdefault(self._group(clip), []).append(clip)
        taken: list[int] = []
        for members in groups.values():
            if len(taken) + len(members) / 2 <= wanted and len(taken) + len(members) < len(clips):
                taken += members
        return taken

    def _group(self, clip: int) -> str:
        entry = self.cache.clips[clip]
        return entry.group or entry.path.name


def _hash(text: str) -> int:
    return zlib.crc32(text.encode())


def option_macs(model: AdaptiveModel) -> Tensor:
    """MACs that each option adds to the policy's own: (A,), zero for its heads.

    Less than zero for long skips, by the runs of the policy that they save.
    """
    policy = network_macs(model.policy, model.views_of(POLICY))
    costs = []
    for option, saved in zip(model.space.options, model.space.saved_runs, strict=True):
        runs = 0
        if option.graph not in (None, POLICY):
            runs = network_macs(model.branches[str(option.graph)], [model.views[str(option.view)]])
        costs.append(runs - saved * policy)
    return torch.tensor(costs, dtype=torch.float32)


States = Mapping[str, Mapping[str, Tensor]]
"""State dicts of branches, by name."""


def branch_states(model: BranchModel) -> States:
    """What every branch holds now, to start from once more."""
    return copy.deepcopy({name: branch.state_dict() for name, branch in model.branches.items()})


def train_float(training: Training) -> None:
    """All float stages of a model with a policy, each skipped if its result is there."""
    costs, untrained = option_macs(training.adaptive), branch_states(training.model)
    train_branches(training)
    warm_up(training, costs)
    train_policy(training, costs)
    if training.recipe.refit is not None:
        refit_branches(training, untrained)
        fold_fusion_scales(training)
    finetune_branches(training, costs)
    training.model.eval()


def first_layers(backbone: nn.Module, count: int) -> list[nn.Module]:
    """The first ``count`` layers of a backbone: MobileNetV2's blocks, or a ResNet's stem and stages."""
    features = getattr(backbone, "features", None)
    layers = list(features) if isinstance(features, nn.Sequential) else list(backbone.children())
    return layers[:count]


def train_branches(training: Training) -> None:
    """Each branch alone on its view, and the policy's backbones likewise, with its own head if it has one."""
    for name in training.model.backbones():
        training.announce(f"branches: {name}")
        _train_branch(training, training.recipe.branches, f"branches-{name}", name, training.seen())
    training.model.requires_grad_(True)


def _train_branch(training: Training, stage: Stage, stage_name: str, name: str, clips: Sequence[int]) -> None:
    """One branch, or a backbone of the policy with its head or one for the lesson, on some clips."""
    model, view = training.model, training.model.view_of(name)
    network = model.branches[name] if name in model.branches else _pupil(training.adaptive, name)
    task = FrameTask(
        network,
        branch_answer,
        view,
        stage,
        len(model.labels),
        frozen=first_layers(model.backbones()[name], stage.frozen_layers),
        augmentation=training.recipe.augmentation,
    )
    if stage.probe_decay and not training.run.done(stage_name):
        probed = training.frames(view.name, _PROBED_FRAMES, clips, train=False)
        _probe(network, probed, stage.probe_decay, both_ways=training.recipe.flip)
    drawn = training.frames(view.name, stage.frames, clips, train=True)
    watched = training.frames(view.name, 4, _watched(training.cache), train=False)
    fit(training.run, stage_name, task, drawn, watched)


def _pupil(model: AdaptiveModel, part: str) -> Pupil:
    """A backbone of the policy with its own head, or with a classifier for the lesson alone."""
    place, backbone = model.policy_parts.index(part), model.backbones()[part]
    if place in {view for _, view in model.policy.heads}:
        return Pupil(backbone, model.policy.classifier(place), dropout=_HEAD_DROPOUT)
    return Pupil(backbone, nn.Linear(backbone.num_features, len(model.labels)))


def refit_branches(training: Training, untrained: States) -> None:
    """The branches anew on all training clips: none need be unseen once the policy has learnt.

    ``untrained``: their states before any training, by name.
    """
    model, stage = training.model, training.recipe.refit
    if stage is None:
        return
    model.requires_grad_(True)
    for name, branch in model.branches.items():
        training.announce(f"branches, all clips: {name}")
        branch.load_state_dict(untrained[name])
        _train_branch(training, stage, f"refit-{name}", name, training.cache.split("train"))
    model.requires_grad_(True)


def fold_fusion_scales(training: Training, stage: str = "joint") -> None:
    """Scale the classifiers of branches that were made anew as the policy's stage found for the old ones."""
    if training.recipe.calibrated:
        scales = json.loads(training.scales_file(stage).read_text())
        fold_scales(training.adaptive, {name: scales[name] for name in training.model.branches})


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


def _watched(cache: ClipCache) -> list[int]:
    """Validation clips to look at after every epoch: enough to see it go wrong, evenly spread."""
    val = cache.split("val")
    return val[:: max(1, len(val) // _WATCHED_CLIPS)]


def train_policy(training: Training, costs: Tensor, name: str = "joint", *, frozen: bool = False) -> None:
    """The policy, and the branches unless they are ``frozen`` or the stage freezes them.

    By straight-through Gumbel sampling; ``costs`` (A,) of the options. Then the price is chosen.
    """
    model, stage = training.adaptive, training.recipe.joint
    assert stage is not None, "a model with a policy has a stage for it"
    training.announce("policy")
    clips = training.held_out() or training.cache.split("train")
    val = training.cache.split("val")
    policy = model.policy
    price_file = training.price_file(name)
    if frozen or stage.frozen_branches:
        task = RolloutTask(
            model,
            training.rollout_loss,
            costs,
            stage,
            [*policy.deciding_parts, *_fusion(model)],
            dropped=training.recipe.dropped_modalities,
        )
        # Computing every branch on every step takes minutes: not for a stage that is done.
        done = training.run.done(name) and price_file.is_file()
        seen = [] if done else _policy_lessons(training, clips, costs, name)
        watched = [] if done else [clip_outputs(training, _watched(training.cache), False)]
        fit(training.run, name, task, ClipOutputs(seen), ClipOutputs(watched))
    else:
        task = RolloutTask(
            model,
            training.rollout_loss,
            costs,
            stage,
            [policy, model.branches, *_fusion(model)],
            dropped=training.recipe.dropped_modalities,
        )
        train_clips = training.clip_steps(clips, train=True)
        fit(training.run, name, task, train_clips, training.clip_steps(val, train=False))
        seen = []
    model.requires_grad_(True)
    if not price_file.is_file():
        # Before the branches see the clips held out: later their answers there are too good to be true.
        priced = seen[0] if seen else clip_outputs(training, clips[:: max(1, len(clips) // 96)], False)
        save_price(price_file, price_curve(model, priced, costs))


def _fusion(model: AdaptiveModel) -> list[nn.Module]:
    """The fusion, if it has anything to learn."""
    return [model.late_fusion] if model.late_fusion is not None else []


def warm_up(training: Training, costs: Tensor) -> None:
    """The branches and their fusion together, every group running at every step."""
    stage = training.recipe.warmup
    if stage is None:
        return
    training.announce("warm-up")
    task = _branches_task(training, costs, stage, dense=True)
    clips, watched = training.cache.split("train"), _watched(training.cache)
    train_clips = training.clip_steps(clips, train=True)
    fit(training.run, "warmup", task, train_clips, training.clip_steps(watched, train=False))
    training.model.requires_grad_(True)


def _branches_task(training: Training, costs: Tensor, stage: Stage, **how: bool) -> RolloutTask:
    """The branches and their fusion, rolled out; ``how`` the options are chosen: ``dense`` or ``decided``."""
    model, recipe = training.adaptive, training.recipe
    return RolloutTask(
        model,
        training.rollout_loss,
        costs,
        stage,
        [*model.branches.values(), *_fusion(model)],
        dropped=recipe.dropped_modalities,
        augmentation=recipe.augmentation,
        **how,
    )


def _policy_lessons(training: Training, clips: Sequence[int], costs: Tensor, name: str) -> list[OutputBatch]:
    """What the policy learns from: clips' outputs, mirrored ones too; and where it starts from."""
    model, recipe = training.adaptive, training.recipe
    lessons = [clip_outputs(training, clips, flip) for flip in ((False, True) if recipe.flip else (False,))]
    if recipe.calibrated:
        training.scales_file(name).write_text(json.dumps(calibrate_fusion(model, lessons)))
    if recipe.dense_targets:
        branch = str(model.space.options[dearest_option(model, costs)].graph)
        for outputs in lessons:
            outputs["target"] = dense_targets(outputs, branch, recipe.dense_targets)
    if recipe.starts_from_schedules:
        assert training.rollout_loss is not None, "what has a policy has a loss for it"
        schedules = best_schedules(model, lessons, costs, training.rollout_loss)
        model.policy.start_from_schedules(schedules, relative_costs(costs))
    return lessons


def clip_outputs(training: Training, clips: Sequence[int], flip: bool) -> OutputBatch:
    """Features and logits of every step of some clips, computed once, mirrored or not."""
    model, cache = training.adaptive, training.cache
    model.eval()
    steps, classes = cache.clip_steps, len(model.labels)
    outputs: OutputBatch = {
        "features": torch.zeros(len(clips), steps, model.policy.num_features),
        "branches": {name: torch.zeros(len(clips), steps, classes) for name in model.branches},
        "present": torch.zeros(len(clips), steps, dtype=torch.bool),
        "label": torch.tensor([cache.target(clip) for clip in clips]),
    }
    if model.may_lack:
        outputs["available"] = torch.zeros(len(clips), steps, len(model.may_lack), dtype=torch.bool)

    def frames(clip: int, view: str) -> Tensor:
        stored = torch.from_numpy(cache.frames(clip, view).copy())
        return mirrored(stored, model.views[view]) if flip else stored

    with torch.no_grad():
        for row, clip in enumerate(clips):
            count = cache.steps(clip)
            outputs["present"][row, :count] = True
            if model.may_lack:
                outputs["available"][row, :count] = availability(cache, clip, model.may_lack)
            seen = {view: frames(clip, view) for view in model.policy_views}
            outputs["features"][row, :count] = model.embed(seen)
            for name, logits in outputs["branches"].items():
                logits[row, :count] = model.branch_logits(name, frames(clip, model.view_of(name).name))
    return outputs


def finetune_branches(training: Training, costs: Tensor) -> None:
    """The branches on the frames that choose them, of all training clips; the policy stays as it is."""
    model, stage = training.adaptive, training.recipe.finetune
    if stage is None:
        return
    training.announce("branch fine-tune")
    task = _branches_task(training, costs, stage, decided=True)
    for branch in model.branches.values():
        for layer in first_layers(branch, stage.frozen_layers):
            layer.requires_grad_(False)
    train_clips = training.clip_steps(training.cache.split("train"), train=True)
    val_clips = training.clip_steps(training.cache.split("val"), train=False)
    fit(training.run, "finetune", task, train_clips, val_clips)
    model.requires_grad_(True)


_WATCHED_CLIPS = 24
_PROBED_FRAMES = 4
_HEAD_DROPOUT = 0.2
