"""From clips to a bundle: data, training at every precision, and packing."""

from __future__ import annotations

import copy
import hashlib
import json
import shlex
import sys
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from typing import Any

import torch

from compiler.console import Console
from compiler.data.cache import ClipCache
from compiler.data.clips import ClipSet
from compiler.data.loading import find_training_clips, load_clips
from compiler.data.probes import any_sound
from compiler.draft import draft_bundle
from compiler.operating_points.folds import Folds, check_folds, held_out_for_good
from compiler.option_costs import OptionCosts
from compiler.pack import pack
from compiler.quantization.candidates import PrecisionSet
from compiler.quantization.networks import check_clips
from compiler.request import Request
from compiler.training.initialization import load_initial_weights
from compiler.training.method_source import source_digest
from compiler.training.plan_checks import check_plan, check_seed
from compiler.training.run import TrainingRun
from compiler.training.training import Training
from compiler.variants import TrainedVariants, train_mixed, train_variants
from models.contract import prepared
from models.recipe import Recipe
from models.rollout.branch_model import BranchModel
from runtimes.bundle import Bundle, check_destination
from runtimes.cache import cache_folder

TRAINING_FORMAT = 9
"""Raised when the compiler's own stages change so that results kept from before do not fit any more.

What is below ``models/`` needs no raise: its source is part of the key (compiler/training/method_source.py).
"""


def compile_bundle(request: Request, console: Console) -> Bundle:
    """Compile and pack; a finished stage of the same model, source, data, recipe and seed is taken as it is.

    Raises: DataError, CompileError, WeightsError, BundleError; KeyboardInterrupt leaves what is finished.
    """
    check_destination(request.out)
    check_seed(request.training.seed)
    console.stage("data")
    clips = find_training_clips(
        request.data.folder,
        console,
        seed=request.training.seed,
        audible="audio" in request.model.chosen_modalities,
    )
    request = follow_data(request, clips, console)
    preset, model = build_model(request, clips.labels, console)
    views, timing = list(model.views.values()), request.model.method.timing(preset)
    cache = load_clips(clips, views, timing, request.data.rate_hz, console)
    training = _training(request, preset, model, cache, console)
    check_clips(cache.split("train"))
    count = _fold_count(request, preset.recipe)
    check_folds(training, count)
    if count > 1:
        what = f"{count} folds judge the operating points"
        console.note(f"{what}: training runs once more for each (--folds 1 is quicker)")
    folds = _folds(request, replace(training, model=copy.deepcopy(model)), count, console)
    console.stage("train and quantize")
    trained = _train(request, training, console)
    for line in trained.lines:
        console.note(line)
    if torch.distributed.is_initialized() and folds is not None:
        folds.train_all(trained)  # by all processes: after this only one goes on
    if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
        return pack(request, training, trained, preset.recipe, console, folds)
    raise SystemExit(0)  # the other processes of a distributed training have done their part


def follow_data(request: Request, clips: ClipSet, console: Console) -> Request:
    """The request without sound, if nobody asked for it, the method does without, and no clip has any."""
    model = request.model
    choice = model.method.modalities
    follows = choice is not None and choice.follows_data and model.modalities is None
    if not follows or "audio" not in model.chosen_modalities or any_sound(clips):
        return request
    rest = tuple(name for name in model.chosen_modalities if name != "audio")
    console.note(f"no clip has sound: {model.name} chooses among {', '.join(rest)} alone")
    return replace(request, model=replace(model, modalities=rest))


def build_model(request: Request, labels: tuple[str, ...], console: Console) -> tuple[Any, BranchModel]:
    """The untrained model and its preset, with ``init``'s weights where they fit.

    Raises: WeightsError; CompileError if the method's plan cannot be carried out for the request.
    """
    check_seed(request.training.seed)
    torch.manual_seed(request.training.seed)
    wanted, method = request.model, request.model.method
    preset = wanted.declared_preset
    if wanted.modalities is not None and method.modalities is not None:
        preset = method.modalities.restrict(preset, wanted.modalities)
    if wanted.init is None and preset.recipe.expects_weights:
        console.note(
            f"warning: preset {wanted.preset} is made for pretrained weights, and no --init gives any: from "
            "random weights it needs far more clips"
        )
    how = request.training
    preset = prepared(
        preset,
        pretrained=wanted.init is not None,
        flip=request.data.flip,
        epochs=how.epochs,
        batch=how.batch,
    )
    check_plan(wanted.name, method.plan(preset), request.target, request.precisions)
    model = method.build(preset, labels)
    if wanted.init is not None:
        load_initial_weights(model, wanted.init, console)
    return preset, model


def _training(
    request: Request, preset: Any, model: BranchModel, cache: ClipCache, console: Console
) -> Training:
    wanted, how = request.model, request.training
    root = how.runs or cache_folder("runs")
    folder = root / f"{wanted.name}-{wanted.preset}-{_run_key(request, preset, cache)}"
    console.note(f"training results: {folder}")
    console.note(f"to watch: tensorboard --logdir {shlex.quote(str(folder / 'tensorboard'))}")
    run = TrainingRun(folder, how.seed, how.hardware, how.resume, sys.stdout.isatty())
    training = Training(model, wanted.method.plan(preset), cache, run, console.note, wanted.name)
    if _fold_count(request, preset.recipe) == 1:
        training = replace(training, excluded=frozenset(held_out_for_good(training)))
    return training


def _fold_count(request: Request, recipe: Recipe) -> int:
    return recipe.folds if request.training.folds is None else request.training.folds


def _folds(request: Request, untrained: Training, count: int, console: Console) -> Folds | None:
    """How operating points are judged; None where there are to be none."""
    if not count:
        return None

    def train(fold: Training, like: TrainedVariants) -> TrainedVariants:
        return _train(request, fold, console, like)

    def draft(training: Training, trained: TrainedVariants) -> AbstractContextManager[Bundle]:
        return draft_bundle(training, request.model.preset, request.target, trained.plan)

    return Folds(untrained, count, train, draft, console)


def _run_key(request: Request, preset: Any, cache: ClipCache) -> str:
    """Names the training by all that decides its outcome; the target does not, so that targets share it."""
    init = request.model.init
    weights = hashlib.sha256(init.read_bytes()).hexdigest() if init else None
    clips = [cache.fingerprint, cache.rate_hz, cache.clip_steps]
    facts = [
        TRAINING_FORMAT,
        source_digest(request.model.method),
        asdict(preset),
        *clips,
        request.training.seed,
        weights,
        request.precisions,
        _fold_count(request, preset.recipe) == 1,
    ]
    return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()[:12]


def _train(
    request: Request, training: Training, console: Console, like: TrainedVariants | None = None
) -> TrainedVariants:
    """Train what the method and the request ask for; ``like``: what was trained on other clips before."""
    names, precision = request.precisions, request.precision
    if names is None:
        return train_variants(training, request.target)
    costs = OptionCosts(request.measuring, request.target, request.model.preset, training, console)
    precisions = PrecisionSet(names, precision.keep_all, precision.modeled_costs)
    return train_mixed(training, request.target, precisions, costs, like)
