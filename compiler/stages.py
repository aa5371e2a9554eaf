"""The float stages of training: branches alone, the policy, the branches again.

Only what a paper's own file says differs between models: its loss, its recipe, its presets.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from compiler.data.batches import ClipOutputs, ClipSteps, DrawnFrames, OutputBatch
from compiler.data.cache import ClipCache
from compiler.price import price_curve, save_price
from compiler.tasks import FrameTask, RolloutLoss, RolloutTask, branch_answer, head_answer
from compiler.train import TrainingRun, fit
from models.adaptive import POLICY, AdaptiveModel, BranchModel
from models.macs import count_macs
from models.recipe import Recipe

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


def option_macs(model: BranchModel) -> Tensor:
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


def first_layers(backbone: nn.Module, count: int) -> list[nn.Module]:
    """The first ``count`` layers of a backbone: MobileNetV2's blocks, or a ResNet's stem and stages."""
    features = getattr(backbone, "features", None)
    layers = list(features) if isinstance(features, nn.Sequential) else list(backbone.children())
    return layers[:count]


def train_branches(training: Training) -> None:
    """Each branch alone on its view, and the policy's backbone and own head likewise."""
    model, stage = training.model, training.recipe.branches
    val = training.cache.split("val")
    for name, backbone in model.backbones().items():
        training.announce(f"branches: {name}")
        view = model.view_of(name)
        network: nn.Module = backbone
        frozen = first_layers(backbone, stage.frozen_layers)
        if name == POLICY:
            assert isinstance(model, AdaptiveModel)
            network = model.policy
            frozen += [model.policy.lstm, model.policy.score]  # their time comes with the options
        task = FrameTask(
            network,
            head_answer if name == POLICY else branch_answer,
            view,
            stage,
            len(model.labels),
            frozen=frozen,
            augmentation=training.recipe.augmentation,
        )
        train_set = training.frames(view.name, stage.frames, training.seen(), train=True)
        val_set = training.frames(view.name, 4, val, train=False)
        fit(training.run, f"branches-{name}", task, train_set, val_set)
    model.requires_grad_(True)


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
            model, training.rollout_loss, costs, stage, [policy.lstm, policy.dropout, policy.score]
        )
        # Computing every branch on every step takes minutes: not for a stage that is done.
        done = training.run.done(name) and price_file.is_file()
        flips = (False, True) if training.recipe.flip else (False,)
        seen = [] if done else [_outputs(training, clips, flip) for flip in flips]
        watched = [] if done else [_outputs(training, val[:: max(1, len(val) // 24)], False)]
        fit(training.run, name, task, ClipOutputs(seen), ClipOutputs(watched))
    else:
        views = list(model.views)
        task = RolloutTask(model, training.rollout_loss, costs, stage, [policy, model.branches])
        train_clips = ClipSteps(training.cache, clips, views, flip=training.recipe.flip)
        fit(training.run, name, task, train_clips, ClipSteps(training.cache, val, views, flip=False))
        seen = []
    model.requires_grad_(True)
    if not price_file.is_file():
        # Before the branches see the clips held out: later their answers there are too good to be true.
        priced = seen[0] if seen else _outputs(training, clips[:: max(1, len(clips) // 96)], False)
        save_price(price_file, price_curve(model, priced, costs))


def _outputs(training: Training, clips: Sequence[int], flip: bool) -> OutputBatch:
    """Features and logits of every step of some clips, computed once, mirrored or not."""
    model, cache = training.adaptive, training.cache
    model.eval()
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
                logits[row, :count] = model.branch_logits(name, frames(clip, model.view_of(name).name))
    return outputs


def finetune_branches(training: Training, costs: Tensor) -> None:
    """The branches on the frames that choose them, of all training clips; the policy stays as it is."""
    model, stage = training.adaptive, training.recipe.finetune
    if stage is None:
        return
    training.announce("branch fine-tune")
    views = list(model.views)
    task = RolloutTask(
        model,
        training.rollout_loss,
        costs,
        stage,
        list(model.branches.values()),
        decided=True,
        augmentation=training.recipe.augmentation,
    )
    for branch in model.branches.values():
        for layer in first_layers(branch, stage.frozen_layers):
            layer.requires_grad_(False)
    train_clips = ClipSteps(training.cache, training.cache.split("train"), views, flip=training.recipe.flip)
    val_clips = ClipSteps(training.cache, training.cache.split("val"), views, flip=False)
    fit(training.run, "finetune", task, train_clips, val_clips)
    model.requires_grad_(True)
