"""The training stages of an adaptive model: branches alone, policy, branches again, then int8.

Only what a paper's own file says differs between models: its loss, its recipe, its presets.
"""

from __future__ import annotations

import copy
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from compiler.calibrate_fusion import calibrate_fusion, fold_scales
from compiler.classifier import classifier_of, embedded, fit_classifier
from compiler.data.batches import ClipOutputs, ClipSteps, DrawnFrames, OutputBatch
from compiler.data.cache import ClipCache
from compiler.dense_targets import dearest_branch, dense_targets
from compiler.price import price_curve, save_price
from compiler.tasks import (
    FrameTask,
    PolicyDistillTask,
    RolloutLoss,
    RolloutTask,
    branch_answer,
    head_answer,
    policy_answer,
)
from compiler.train import TrainingRun, fit
from models.adaptive import POLICY, AdaptiveModel, pixels
from models.macs import count_macs
from models.policy import RecurrentPolicy
from models.quantization import ActivationFormat, calibrate, freeze, quantise
from models.recipe import Recipe, Stage

Announce = Callable[[str], None]
"""Told the name of each stage as it starts."""


@dataclass(frozen=True)
class Training:
    """What every stage needs: the model, its recipe and loss, the clips, and where results are kept."""

    model: AdaptiveModel
    recipe: Recipe
    loss: RolloutLoss
    cache: ClipCache
    run: TrainingRun
    announce: Announce = lambda stage: None

    def frames(self, view: str, count: int, clips: Sequence[int], *, train: bool) -> DrawnFrames:
        """Drawn frames of some clips at a view."""
        shape = self.model.views[view]
        return DrawnFrames(self.cache, clips, shape, count, train=train, flip=self.recipe.flip)

    @property
    def price_file(self) -> Path:
        """Where the price chosen after the policy's stage is kept."""
        return self.run.folder / "price.json"

    @property
    def scales_file(self) -> Path:
        """Where the scales of the branches' logits are kept."""
        return self.run.folder / "scales.json"

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
    """MACs that each option adds to the policy's own: (A,), zero for its head and for skips."""
    costs = []
    for option in model.space.options:
        if option.graph in (None, POLICY):
            costs.append(0)
            continue
        size = model.views[str(option.view)].size
        frame = torch.zeros(1, size, size, 3, dtype=torch.uint8)
        branch = str(option.graph)
        costs.append(count_macs(model.branches[branch], partial(model.branch_logits, branch, frame)))
    return torch.tensor(costs, dtype=torch.float32)


def train(training: Training) -> None:
    """All float stages, each skipped if its result is there. The model ends in evaluation mode."""
    untrained = copy.deepcopy({name: branch.state_dict() for name, branch in training.model.branches.items()})
    _train_branches(training)
    _train_jointly(training)
    if training.recipe.refit:
        _refit_branches(training, training.recipe.refit, untrained)
    _finetune_branches(training)
    training.model.eval()


def _watched(cache: ClipCache) -> list[int]:
    """Validation clips to look at after every epoch: enough to see it go wrong, evenly spread."""
    val = cache.split("val")
    return val[:: max(1, len(val) // _WATCHED_CLIPS)]


def _first_layers(backbone: nn.Module, count: int) -> list[nn.Module]:
    """The first ``count`` layers of a backbone: MobileNetV2's blocks, or a ResNet's stem and stages."""
    features = getattr(backbone, "features", None)
    layers = list(features) if isinstance(features, nn.Sequential) else list(backbone.children())
    return layers[:count]


def _train_branches(training: Training) -> None:
    """Each branch alone on its view, and the policy's backbone and own head likewise."""
    model, held = training.model, set(training.held_out())
    seen = [clip for clip in training.cache.split("train") if clip not in held]
    for name in (POLICY, *model.branches):
        training.announce(f"branches: {name}")
        _train_branch(training, training.recipe.branches, f"branches-{name}", name, seen)
    model.requires_grad_(True)


def _train_branch(training: Training, stage: Stage, stage_name: str, name: str, clips: Sequence[int]) -> None:
    """One branch, or the policy's backbone and own head, on some clips."""
    model, is_policy = training.model, name == POLICY
    network = model.policy if is_policy else model.branches[name]
    view = model.policy_view if is_policy else model.branch_view(name).name
    frozen = _first_layers(model.backbones()[name], stage.frozen_layers)
    if is_policy:
        frozen += [model.policy.lstm, model.policy.score]  # their time comes with the options
    task = FrameTask(
        network,
        head_answer if is_policy else branch_answer,
        model.views[view],
        stage,
        len(model.labels),
        frozen=frozen,
        augmentation=training.recipe.augmentation,
    )
    if stage.probe_decay and not training.run.done(stage_name):
        probed = training.frames(view, _PROBED_FRAMES, clips, train=False)
        _probe(network, probed, stage.probe_decay, mirrored=training.recipe.flip)
    drawn = training.frames(view, stage.frames, clips, train=True)
    watched = training.frames(view, 4, _watched(training.cache), train=False)
    fit(training.run, stage_name, task, drawn, watched)


def _refit_branches(training: Training, stage: Stage, untrained: Mapping[str, Mapping[str, Tensor]]) -> None:
    """The branches anew on all training clips: none need be unseen once the policy has learnt."""
    model = training.model
    model.requires_grad_(True)
    for name, branch in model.branches.items():
        training.announce(f"branches, all clips: {name}")
        branch.load_state_dict(untrained[name])
        _train_branch(training, stage, f"refit-{name}", name, training.cache.split("train"))
    if training.recipe.calibrated:
        scales = json.loads(training.scales_file.read_text())
        fold_scales(model, {name: scales[name] for name in model.branches})
    model.requires_grad_(True)


def _probe(network: nn.Module, drawn: DrawnFrames, decay: float, *, mirrored: bool) -> None:
    """Fit the classifier of a pretrained network on its features of these frames, mirrored ones too."""
    flips = ((), (3,)) if mirrored else ((),)
    items = [drawn[i] for i in range(len(drawn))]
    images = (pixels(frames, drawn.view).flip(axes) for frames, _ in items for axes in flips)
    features = embedded(network, images)
    labels = torch.tensor([label for _, label in items]).repeat_interleave(len(features) // len(items))
    fit_classifier(classifier_of(network), features, labels, decay)


def _train_jointly(training: Training) -> None:
    """The policy with the branches, by straight-through Gumbel sampling."""
    model, stage = training.model, training.recipe.joint
    training.announce("policy")
    clips = training.held_out() or training.cache.split("train")
    val = training.cache.split("val")
    policy = model.policy
    costs = option_macs(model)
    if stage.frozen_branches:
        task = RolloutTask(model, training.loss, costs, stage, [policy.lstm, policy.dropout, policy.score])
        # Computing every branch on every step takes minutes: not for a stage that is done.
        done = training.run.done("joint") and training.price_file.is_file()
        seen = [] if done else _policy_lessons(training, clips, costs)
        watched = [] if done else [_outputs(training, _watched(training.cache), False)]
        fit(training.run, "joint", task, ClipOutputs(seen), ClipOutputs(watched))
    else:
        views = list(model.views)
        task = RolloutTask(model, training.loss, costs, stage, [policy, model.branches])
        train_clips = ClipSteps(training.cache, clips, views, flip=training.recipe.flip)
        fit(training.run, "joint", task, train_clips, ClipSteps(training.cache, val, views, flip=False))
        seen = []
    if not training.price_file.is_file():
        # Before the branches see the clips held out: later their answers there are too good to be true.
        priced = seen[0] if seen else _outputs(training, clips[:: max(1, len(clips) // 96)], False)
        save_price(training.price_file, price_curve(model, priced, costs))


def _policy_lessons(training: Training, clips: Sequence[int], costs: Tensor) -> list[OutputBatch]:
    """What the policy learns from: clips' outputs, mirrored ones too; and where it starts from."""
    model, recipe = training.model, training.recipe
    lessons = [_outputs(training, clips, flip) for flip in ((False, True) if recipe.flip else (False,))]
    if recipe.calibrated:
        training.scales_file.write_text(json.dumps(calibrate_fusion(model, lessons)))
    if recipe.dense_targets:
        branch = dearest_branch(model, costs)
        for outputs in lessons:
            outputs["target"] = dense_targets(outputs, branch, recipe.dense_targets)
    if recipe.start_skip:
        skip = model.skips.tolist().index(recipe.start_skip)
        model.policy.start_from_schedule(int(costs.argmax()), skip)
    return lessons


def _outputs(training: Training, clips: Sequence[int], flip: bool) -> OutputBatch:
    """Features and logits of every step of some clips, computed once, mirrored or not."""
    model, cache = training.model.eval(), training.cache
    steps, classes = cache.clip_steps, len(model.labels)
    outputs: OutputBatch = {
        "features": torch.zeros(len(clips), steps, model.policy.backbone.num_features),
        "branches": {name: torch.zeros(len(clips), steps, classes) for name in model.branches},
        "present": torch.zeros(len(clips), steps, dtype=torch.bool),
        "label": torch.tensor([cache.target(clip) for clip in clips]),
    }

    def frames(clip: int, view: str) -> Tensor:
        stored = torch.from_numpy(cache.frames(clip, view).copy())
        return stored.flip(2) if flip else stored

    with torch.no_grad():
        for row, clip in enumerate(clips):
            count = cache.steps(clip)
            outputs["present"][row, :count] = True
            outputs["features"][row, :count] = model.embed(frames(clip, model.policy_view))
            for name, logits in outputs["branches"].items():
                logits[row, :count] = model.branch_logits(name, frames(clip, model.branch_view(name).name))
    return outputs


def _finetune_branches(training: Training) -> None:
    """The branches on the frames that choose them, of all training clips; the policy stays as it is."""
    model, stage = training.model, training.recipe.finetune
    if stage.epochs == 0:
        return
    training.announce("branch fine-tune")
    views = list(model.views)
    task = RolloutTask(
        model,
        training.loss,
        option_macs(model),
        stage,
        list(model.branches.values()),
        decided=True,
        augmentation=training.recipe.augmentation,
    )
    for branch in model.branches.values():
        for layer in _first_layers(branch, stage.frozen_layers):
            layer.requires_grad_(False)
    train_clips = ClipSteps(training.cache, training.cache.split("train"), views, flip=training.recipe.flip)
    val_clips = ClipSteps(training.cache, training.cache.split("val"), views, flip=False)
    fit(training.run, "finetune", task, train_clips, val_clips)
    model.requires_grad_(True)


def quantise_model(training: Training, activations: ActivationFormat) -> dict[str, nn.Module]:
    """Quantisation-aware finetuning of the policy and every branch; the frozen integer networks by name."""
    model = training.model.eval()
    frozen: dict[str, nn.Module] = {}
    for name in (POLICY, *model.branches):
        training.announce(f"int8: {name}")
        network = quantise(model.policy if name == POLICY else model.branches[name], activations)
        _finetune_quantised(training, name, network, activations)
        frozen[name] = freeze(network)
    return frozen


def _finetune_quantised(
    training: Training, name: str, network: nn.Module, activations: ActivationFormat
) -> None:
    """Calibrate one quantised network on training clips and pull it to its float self."""
    model, stage = training.model, training.recipe.qat
    is_policy = name == POLICY
    view = model.policy_view if is_policy else model.branch_view(name).name
    teacher = model.policy if is_policy else model.branches[name]
    if is_policy:
        stage = replace(stage, frames=4 * stage.frames)
    clips = training.cache.split("train")
    drawn = training.frames(view, stage.frames, clips, train=True)
    calibrate(network, _calibration(network, drawn, stage, training))
    shape, classes = model.views[view], len(model.labels)
    task = (
        PolicyDistillTask(network, shape, stage, classes, teacher)
        if is_policy
        else FrameTask(network, branch_answer, shape, stage, classes, teacher=teacher)
    )
    val = training.frames(view, stage.frames, training.cache.split("val"), train=False)
    fit(training.run, f"{activations}-{name}", task, drawn, val)


def _calibration(network: nn.Module, drawn: DrawnFrames, stage: Stage, training: Training) -> Iterator[None]:
    """Run a network over a few batches of training frames, drawn by the run's seed."""
    torch.manual_seed(training.run.seed)
    batches = DataLoader(drawn, stage.batch, shuffle=True)
    for _, (frames, _) in zip(range(_CALIBRATION_BATCHES), batches, strict=False):
        images = pixels(frames.flatten(0, 1), drawn.view)
        images = images.view(*frames.shape[:2], *images.shape[1:])
        answer = policy_answer if isinstance(network, RecurrentPolicy) else branch_answer
        answer(network, images)
        yield


_CALIBRATION_BATCHES = 8
_WATCHED_CLIPS = 24
_PROBED_FRAMES = 4
