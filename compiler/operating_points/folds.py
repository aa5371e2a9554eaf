"""Clips to judge by: each is answered by networks that never saw it, nor any clip of its group."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from compiler.console import Console
from compiler.errors import CompileError
from compiler.measuring.evaluation import Evaluator
from compiler.operating_points.admission import FEWEST_GROUPS
from compiler.operating_points.answers import Answers, joined
from compiler.operating_points.candidates import group_folds
from compiler.operating_points.gathering import gather
from compiler.quantization.networks import FEWEST_CLIPS
from compiler.training.training import Training
from compiler.variants import TrainedVariants
from runtimes.bundle import Bundle
from runtimes.engines.engine import open_engine
from runtimes.spec import CostTable

HELD_OUT_OF = 5
"""One fold alone is held out of so many, and nothing is trained again for it."""

Train = Callable[[Training, TrainedVariants], TrainedVariants]
"""Trains as a model like it was trained."""
Draft = Callable[[Training, TrainedVariants], AbstractContextManager[Bundle]]
"""The bundle of what was trained, while it is used."""


@dataclass(frozen=True)
class Folds:
    """How a compile judges.

    ``untrained``: the training with its model as it was before any. ``count``: of folds; 1: a share of the
    clips is held out for good.
    """

    untrained: Training
    count: int
    train: Train
    draft: Draft
    console: Console

    @property
    def description(self) -> str:
        """On which clips points are judged, in words."""
        if self.count == 1:
            held_out = held_out_for_good(self.untrained)
            return f"{len(held_out)} training clips that nothing was trained on{self._groups_of(held_out)}"
        clips = self.untrained.cache.split("train")
        how = f"each by networks that never saw its group ({self.count} folds)"
        return f"{len(clips)} training clips, {how}{self._groups_of(clips)}"

    def _groups_of(self, clips: Sequence[int]) -> str:
        """In words, if they are of too few."""
        groups = len({self.untrained.group_of(clip) for clip in clips})
        if groups >= FEWEST_GROUPS:
            return ""
        return f", of only {groups} groups: too few to prove anything better than schedules by"

    def answers(self, trained: TrainedVariants, costs: CostTable) -> Mapping[str, Answers]:
        """By variant, those of every training clip, or of those held out. What is done is kept."""
        if self.count == 1:
            clips = held_out_for_good(self.untrained)
            kept = self._kept(self.untrained, trained)
            return kept or self._gathered(self.untrained, trained, trained, clips, costs)
        found: list[Mapping[str, Answers]] = []
        for number, clips in enumerate(parted(self.untrained, self.count)):
            fold = self._fold(number, clips)
            kept = self._kept(fold, trained)
            if kept is None:
                self.console.note(f"fold {number + 1} of {self.count}: {len(clips)} clips held out")
                kept = self._gathered(fold, trained, self.train(fold, trained), clips, costs)
            found.append(kept)
        return {name: joined([one[name] for one in found]) for name in found[0]}

    def train_all(self, trained: TrainedVariants) -> None:
        """Train every fold, and keep the results for ``answers``."""
        if self.count > 1:
            for number, clips in enumerate(parted(self.untrained, self.count)):
                self.train(self._fold(number, clips), trained)

    def _fold(self, number: int, clips: Sequence[int]) -> Training:
        training = self.untrained
        run = replace(training.run, folder=training.run.folder / f"fold-{number + 1}-of-{self.count}")
        model = copy.deepcopy(training.model)
        return replace(training, model=model, run=run, excluded=frozenset(clips))

    def _kept(self, fold: Training, trained: TrainedVariants) -> Mapping[str, Answers] | None:
        """What was gathered before of the same variants, if all of it was."""
        found = {}
        for variant in trained.plan.variants:
            file = fold.run.folder / f"answers-{variant.name}.npz"
            if not file.is_file():
                return None
            found[variant.name] = Answers.load(file)
        return found

    def _gathered(
        self,
        fold: Training,
        trained: TrainedVariants,
        own: TrainedVariants,
        clips: Sequence[int],
        costs: CostTable,
    ) -> Mapping[str, Answers]:
        found = {}
        with self.draft(fold, own) as bundle, open_engine(bundle, "cpu") as engine:
            for variant in bundle.manifest.variants:
                evaluator = Evaluator(bundle.manifest, variant, engine, fold.cache, clips)
                with self.console.progress(f"{variant.name}: what each look answers") as advance:
                    answers = gather(evaluator, costs, advance)
                fold.run.folder.mkdir(parents=True, exist_ok=True)
                answers.save(fold.run.folder / f"answers-{variant.name}.npz")
                found[variant.name] = answers
        return found


def check_folds(training: Training, count: int) -> None:
    """Raises: CompileError if a fold leaves too few clips to train on, or is empty."""
    if count == 0:
        return
    clips = len(training.cache.split("train"))
    folds = parted(training, count) if count > 1 else parted(training, HELD_OUT_OF)[:1]
    left = clips - max(map(len, folds))
    if left < FEWEST_CLIPS or not all(folds):
        reason = f"cannot be judged by {count} folds of {clips} training clips: {left} are left to train on"
        fix = f"give more clips (in more groups), or --folds 0; {FEWEST_CLIPS} must be left"
        raise CompileError("operating points", reason, fix)


def parted(training: Training, count: int) -> list[list[int]]:
    """The training clips in so many folds: groups are not parted."""
    clips = training.cache.split("train")
    folds = group_folds([training.group_of(clip) for clip in clips], count)
    return [[clip for clip, own in zip(clips, folds, strict=True) if own == fold] for fold in range(count)]


def held_out_for_good(training: Training) -> list[int]:
    """The training clips that a compile without folds trains nothing on."""
    return parted(training, HELD_OUT_OF)[0]
