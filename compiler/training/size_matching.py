"""The stage that makes pretrained networks see at small sizes what they saw at the largest."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from compiler.data.batches import DrawnViews
from compiler.training.run import fit
from compiler.training.tasks.size_matching import SizeMatchingTask
from compiler.training.training import Training
from models.training_plan import MatchSizes
from runtimes.spec import View

_SMALL = 0.65
"""Of the largest size: what is larger sees things nearly as large, and loses by it (benchmarks/README.md)."""


def match_sizes(training: Training, stage: MatchSizes) -> None:
    """Pull each network to the one that starts from the same weights at the largest size.

    Networks of random weights have nothing to match, and are left as they are.
    """
    for names in _same_weights(training):
        training.announce(f"sizes: {', '.join(names[1:])} to {names[0]}")
        _match(training, stage, names)


def _match(training: Training, stage: MatchSizes, names: Sequence[str]) -> None:
    model, backbones = training.model, training.model.backbones()
    views = [model.view_of(name) for name in names]
    students = {name: backbones[name] for name in names[1:]}
    teacher, optimization = backbones[names[0]], stage.optimization
    task = SizeMatchingTask(students, views[1:], teacher, views[0], optimization, len(model.labels))
    clips, frames, flip = training.clips(stage.clips), optimization.frames, training.plan.flip
    groups = [(view.name,) for view in views]
    drawn = DrawnViews(training.cache, clips, views, groups, frames, train=True, flip=flip)
    watched = DrawnViews(training.cache, training.watched_clips(), views, groups, 4, train=False, flip=False)
    fit(training.run, f"sizes-{names[0]}", task, drawn, watched)
    model.requires_grad_(True)


def _same_weights(training: Training) -> list[list[str]]:
    """Names of networks that start from the same weights, that of the largest view first; two or more."""
    model = training.model
    backbones = model.backbones()
    pictures = [name for name in backbones if _is_picture(model.view_of(name))]
    by_size = sorted(pictures, key=lambda name: -model.view_of(name).size)
    groups: list[list[str]] = []
    for name in by_size:
        alike = (group for group in groups if _alike(backbones[group[0]], backbones[name]))
        found = next(alike, None)
        if found is None:
            groups.append([name])
        elif model.view_of(name).size <= _SMALL * model.view_of(found[0]).size:
            found.append(name)
    return [group for group in groups if len(group) > 1]


def _is_picture(view: View) -> bool:
    """Whether it is one picture, of which there are others of other sizes."""
    return view.modality == "rgb" and view.frames == view.stack == 1


def _alike(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    """Whether two networks have the same weights but for their classifiers."""
    states = [
        {name: value for name, value in net.state_dict().items() if value.ndim == 4} for net in (one, other)
    ]
    return states[0].keys() == states[1].keys() and all(
        torch.equal(value, states[1][name]) for name, value in states[0].items()
    )
