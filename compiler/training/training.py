"""What every training stage is given: the model, its plan, the clips, and where results are kept."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from compiler.data.batches import ClipSteps, DrawnFrames, DrawnViews
from compiler.data.cache import ClipCache
from compiler.training.run import TrainingRun
from models.rollout.adaptive_model import AdaptiveModel
from models.rollout.branch_model import POLICY, BranchModel
from models.training_plan import Clips, TrainingPlan

Announce = Callable[[str], None]
"""Called with the name of each stage as it starts."""

States = Mapping[str, Mapping[str, Tensor]]
"""State dicts of branches, by name."""


@dataclass(frozen=True)
class Training:
    """The model, its training plan, the clips, and where results are kept.

    ``excluded``: training clips that nothing is trained on, to judge by.
    """

    model: BranchModel
    plan: TrainingPlan
    cache: ClipCache
    run: TrainingRun
    announce: Announce = lambda stage: None
    name: str = "model"
    excluded: frozenset[int] = frozenset()

    def graph(self, part: str, precision: str) -> str:
        """The name of the graph of one part; caches of accelerators go by it, so it names the model too."""
        return f"{self.name}-{part}-{precision}"

    @property
    def adaptive(self) -> AdaptiveModel:
        """The model, which has a policy."""
        assert isinstance(self.model, AdaptiveModel)
        return self.model

    def frames(self, view: str, count: int, clips: Sequence[int], *, train: bool) -> DrawnFrames:
        """Drawn frames of some clips at a view."""
        shape = self.model.views[view]
        return DrawnFrames(self.cache, clips, shape, count, train=train, flip=self.plan.flip)

    def clip_steps(self, clips: Sequence[int], *, train: bool) -> ClipSteps:
        """Whole clips at every view of the model, mirrored at random if the plan says so."""
        model = self.model
        flip = train and self.plan.flip
        return ClipSteps(self.cache, clips, model.views, flip=flip, groups=model.may_lack)

    def policy_views(self, count: int, clips: Sequence[int], *, train: bool) -> DrawnViews:
        """Drawn steps of some clips at the policy's views."""
        views = self.adaptive.views_of(POLICY)
        groups = self.model.branch_views
        return DrawnViews(self.cache, clips, views, groups, count, train=train, flip=self.plan.flip)

    @property
    def train_clips(self) -> list[int]:
        """The training clips, but for those that are excluded."""
        return [clip for clip in self.cache.split("train") if clip not in self.excluded]

    def clips(self, which: Clips) -> list[int]:
        """The training clips of a stage; those held out are all of them where none are."""
        if which == "seen":
            return self.seen()
        return (self.held_out() if which == "held out" else []) or self.train_clips

    def watched_clips(self) -> list[int]:
        """Validation clips to look at after every epoch: enough to see it go wrong, evenly spread."""
        val = self.cache.split("val")
        return val[:: max(1, len(val) // _WATCHED_CLIPS)]

    def seen(self) -> list[int]:
        """Training clips that the branches' first stages see."""
        held = set(self.held_out())
        return [clip for clip in self.train_clips if clip not in held]

    def held_out(self) -> list[int]:
        """Training clips that the branches' first stages do not see: a fixed share of every class."""
        by_label: dict[str, list[int]] = {}
        for clip in self.train_clips:
            by_label.setdefault(self.cache.clips[clip].label, []).append(clip)
        held: list[int] = []
        for clips in by_label.values():
            held += self._whole_groups(clips, round(len(clips) * self.plan.holdout))
        return sorted(held)

    def _whole_groups(self, clips: Sequence[int], wanted: int) -> list[int]:
        """About ``wanted`` of the clips, never all: groups (clips of one scene or person) are not parted."""
        groups: dict[str, list[int]] = {}
        # By the hash of their name, not by position.
        for clip in sorted(clips, key=lambda c: (_hash(self.group_of(c)), c)):
            groups.setdefault(self.group_of(clip), []).append(clip)
        taken: list[int] = []
        for members in groups.values():
            if len(taken) + len(members) / 2 <= wanted and len(taken) + len(members) < len(clips):
                taken += members
        return taken

    def group_of(self, clip: int) -> str:
        """What a clip is not to be parted from, by name."""
        entry = self.cache.clips[clip]
        return entry.group or entry.path.name


def _hash(text: str) -> int:
    return zlib.crc32(text.encode())


_WATCHED_CLIPS = 24
