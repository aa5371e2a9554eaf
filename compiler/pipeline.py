"""From clips to a bundle: data, training, int8, split, gates, profile, pack."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from pydantic import JsonValue

from compiler.bundle_plan import MIXABLE, PRECISIONS, Contents
from compiler.data.cache import ClipCache
from compiler.data.clips import ClipSet, find_clips
from compiler.data.probes import any_sound
from compiler.data.rate import choose_rate_hz
from compiler.data.synthetic import built_in
from compiler.errors import CompileError, DataError
from compiler.export.split import Split, split, write_again
from compiler.gate import Gate, require
from compiler.gates.integer_layers import verify_integers
from compiler.gates.other_targets import verify_target
from compiler.gates.parity import verify_graphs, verify_streaming
from compiler.measuring.evaluation import Evaluator
from compiler.measuring.graph_costs import declared_costs, kept_costs, read_costs
from compiler.measuring.price_response import price_response
from compiler.measuring.profile import measure, profile
from compiler.quantization.candidates import Precisions, multibit_of
from compiler.quantization.networks import check_clips
from compiler.report.report import verdicts, write_report
from compiler.targets import Target
from compiler.training.price_selection import load_price
from compiler.training.run import Hardware, TrainingRun
from compiler.training.stages import Training
from compiler.training.tasks import RolloutLoss
from compiler.variants import Trained, train_mixed, train_variants
from models.backbones.weights import WeightsError, load_weights
from models.layers.nested import STORED
from models.methods.registry import MODELS
from models.rollout.adaptive import BranchModel
from runtimes.bundle import Bundle, check_destination, write_bundle
from runtimes.cache import cache_folder
from runtimes.device import device_name
from runtimes.engines.engine import Engine, open_engine
from runtimes.spec import CostTable, Steps, Variant
from sdk.power import Meter, open_meter

_VERSIONED = ("adaptive-video", "av", "brevitas", "lightning", "numpy", "onnx", "onnxruntime", "torch")
TRAINING_FORMAT = 8
"""Raised when models or stages change so that results kept from before do not fit any more."""
_TRAINED_APART = (PRECISIONS["fp32"], PRECISIONS["int8"])
"""The bits of models whose precisions share no weights."""
_GATE_CLIPS, _MORE_GATE_CLIPS = 24, 128
_STREAMED_CLIPS = 8
"""How many validation clips the gates look at: enough for their limits, and large sets take no longer."""


class Console(Protocol):
    """Where the pipeline tells what it does."""

    def stage(self, name: str) -> None:
        """A stage begins."""
        ...

    def note(self, text: str) -> None:
        """Something the user should know."""
        ...

    def progress(self, name: str) -> AbstractContextManager[Callable[[int, int], None]]:
        """A progress bar: call what it gives with (done, total)."""
        ...


@dataclass(frozen=True)
class Request:
    """What is to be compiled. ``data`` None is the built-in set; ``init`` None starts from random weights.

    ``targets``: what the bundle has graphs for, its own first.
    ``precisions``: those that one policy (or the app) chooses among; None leaves it to the model.
    ``modalities``: those that the model chooses among; None leaves them to its preset.
    ``meter``: what measures the energy of each graph (see ``sdk.power.open_meter``); None measures none.
    ``keep_all_precisions``: also those not worth their cost. ``modelled_costs``: the policy's loss counts
    modelled BitOps. ``costs``: the device's own cost table.
    """

    model: str
    preset: str
    targets: tuple[Target, ...]
    out: Path
    data: Path | None = None
    init: Path | None = None
    seed: int = 0
    rate_hz: float | None = None
    flip: bool | None = None
    runs: Path | None = None
    resume: bool = False
    hardware: Hardware = field(default_factory=Hardware)
    precisions: tuple[str, ...] | None = None
    keep_all_precisions: bool = False
    modelled_costs: bool = False
    costs: Path | None = None
    modalities: tuple[str, ...] | None = None
    meter: str | None = None

    @property
    def target(self) -> Target:
        """The bundle's own: its int8 form, precisions and costs are what the policy is trained for."""
        return self.targets[0]

    def open_meter(self) -> AbstractContextManager[Meter | None]:
        """The meter, if one is asked for. Raises: MeterError."""
        return nullcontext() if self.meter is None else open_meter(self.meter)

    @property
    def wanted_precisions(self) -> tuple[str, ...] | None:
        """The precisions that one variant chooses among; None for a variant each."""
        definition, known = MODELS[self.model], self.target.precisions
        if self.precisions is not None or not definition.mixes_precisions:
            return self.precisions
        widths = getattr(definition.presets[self.preset], "widths", _TRAINED_APART)
        return tuple(
            name
            for name, bits in PRECISIONS.items()
            if bits in widths and (name in known or (bits <= STORED and "int8" in known))
        )


def compile_bundle(request: Request, console: Console) -> Bundle:
    """Compile and pack; a finished stage of the same model, data, recipe and seed is taken as it is.

    Raises: DataError, CompileError, WeightsError, BundleError; KeyboardInterrupt leaves what is finished.
    """
    check_destination(request.out)
    console.stage("data")
    clips = find_training_clips(request, console)
    request = of_data(request, clips, console)
    preset, model = build_model(request, clips.labels, console)
    cache = _cached(request, clips, model, preset, console)
    training = _training(request, preset, model, cache, console)
    check_clips(cache.split("train"))
    console.stage("train and quantise")
    trained = _train(request, preset, training, console)
    for line in trained.lines:
        console.note(line)
    if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
        return _pack(request, training, trained, console)
    raise SystemExit(0)  # the other processes of a distributed training have done their part


def _train(request: Request, preset: Any, training: Training, console: Console) -> Trained:
    """Train what the model and the request ask for."""
    names = request.wanted_precisions
    if names is None:
        return train_variants(training, request.target)
    precisions = Precisions(
        names, multibit_of(preset, names), request.keep_all_precisions, request.modelled_costs
    )
    return train_mixed(training, request.target, precisions, partial(_costs_of, request, training, console))


def _costs_of(request: Request, training: Training, console: Console, contents: Contents) -> CostTable:
    """What the graphs of some contents cost on the target."""
    target = request.target
    graphs = [network.graph for plan in contents.plans for network in plan.networks]
    if request.costs is not None:
        return read_costs(request.costs, graphs)
    if not target.fuses_here:
        speeds = ", ".join(f"{name} x{speed:g}" for name, speed in target.speeds.items())
        console.note(f"costs of {target.name} are declared, not measured ({speeds}); see --costs")
        return declared_costs(contents, target)

    def measured() -> CostTable:
        console.note("measuring every precision")
        return _measured_costs(request, training, contents)

    with request.open_meter() as meter:
        source = None if meter is None else meter.source
    path = training.run.folder / f"costs-{target.name}.json"
    return kept_costs(path, graphs, device_name(), measured, source)


def _measured_costs(request: Request, training: Training, contents: Contents) -> CostTable:
    cache = training.cache
    with tempfile.TemporaryDirectory(prefix="adaptive-compile-") as scratch:
        graphs = Path(scratch) / "graphs"
        graphs.mkdir()
        parts = split(contents, (request.target.run_here,), graphs)
        bundle = write_bundle(Path(scratch) / "draft.bundle", graphs, _fields(request, training, parts))
        with open_engine(bundle, "cpu") as engine, request.open_meter() as meter:
            return measure(bundle, engine, cache, cache.split("train"), meter)


def find_training_clips(request: Request, console: Console) -> ClipSet:
    """The clips to train on. Raises: DataError."""
    if request.data is not None:
        return find_clips(request.data)
    root = built_in.make_clips(seed=request.seed)
    if "audio" in _modalities(request):
        return find_clips(root)
    # A model of frames alone cannot tell classes that only sound different.
    console.note(f"built-in data, the visible classes: {', '.join(built_in.VISIBLE_CLASSES)}")
    return find_clips(root, classes=built_in.VISIBLE_CLASSES)


def _modalities(request: Request) -> tuple[str, ...]:
    """What the model chooses among; empty for one that sees pictures alone."""
    preset = MODELS[request.model].presets[request.preset]
    known: tuple[str, ...] = getattr(preset, "modalities", ())
    return request.modalities or known


def of_data(request: Request, clips: ClipSet, console: Console) -> Request:
    """The request without sound, if nobody asked for it, the model does without, and no clip has any."""
    follows = MODELS[request.model].follows_data and request.modalities is None
    if not follows or "audio" not in _modalities(request) or any_sound(clips):
        return request
    rest = tuple(name for name in _modalities(request) if name != "audio")
    console.note(f"no clip has sound: {request.model} chooses among {', '.join(rest)} alone")
    return replace(request, modalities=rest)


def build_model(request: Request, labels: tuple[str, ...], console: Console) -> tuple[Any, BranchModel]:
    """The untrained model and its preset, with ``init``'s weights where they fit. Raises: WeightsError."""
    torch.manual_seed(request.seed)
    definition = MODELS[request.model]
    preset = definition.presets[request.preset]
    if request.modalities is not None and definition.of_modalities is not None:
        preset = definition.of_modalities(preset, request.modalities)
    recipe = preset.recipe if request.init else preset.recipe.from_scratch()
    if request.flip is not None:
        recipe = replace(recipe, flip=request.flip)
    preset = replace(preset, recipe=recipe)
    model = definition.build(preset, labels)
    if request.init is not None:
        _load_init(model, request.init, console)
    return preset, model


def _load_init(model: BranchModel, path: Path, console: Console) -> None:
    """Load the weights into every backbone of their architecture; others are named."""
    fitted: list[str] = []
    errors: dict[str, WeightsError] = {}
    for name, backbone in model.backbones().items():
        try:
            report = load_weights(backbone, path, model.view_of(name))
        except WeightsError as error:
            errors[name] = error
            continue
        fitted.append(name)
        unfit = ", ".join(report.unfit) or "none"
        missing = ", ".join(report.missing) or "none"
        console.note(
            f"{name}: {len(report.loaded)} tensors of {path.name}; unfit: {unfit}; left random: {missing}"
        )
        if report.adapted is not None:
            console.note(f"{name}: {report.adapted}")
    if not fitted:
        raise next(iter(errors.values()))
    for name, misfit in errors.items():
        console.note(f"{name}: starts from random weights ({misfit.reason})")


def _cached(request: Request, clips: ClipSet, model: BranchModel, preset: Any, console: Console) -> ClipCache:
    steps = preset.steps
    rate_hz = request.rate_hz or getattr(preset, "rate_hz", None) or choose_rate_hz(clips, steps)
    with console.progress("decoding clips") as advance:
        views = list(model.views.values())
        folder, segment_s = cache_folder("clips"), getattr(preset, "segment_s", 0.0)
        cache = ClipCache.build(clips, views, rate_hz, steps, folder, advance, segment_s=segment_s)
    train_clips, val_clips = len(cache.split("train")), len(cache.split("val"))
    console.note(
        f"{len(cache.labels)} classes, {train_clips} training and {val_clips} validation clips, "
        f"{rate_hz:g} steps a second, at most {steps} a clip"
    )
    for path, reason in cache.rejected:
        console.note(f"left out: {path}: {reason}")
    note_absent(cache, console)
    if cache.cut_clips:
        console.note(f"{cache.cut_clips} clips are longer than {steps} steps: only their beginning is used")
    return cache


def note_absent(cache: ClipCache, console: Console) -> None:
    """Say how many clips lack a modality. Raises: DataError if all of them do, at every step."""
    clips = range(len(cache.clips))
    for modality in sorted({view.modality for view in cache.views}):
        lacking = [float(cache.absent(clip, modality).mean()) for clip in clips]
        if all(share == 1 for share in lacking):
            mend = f"leave {modality} out of --modalities, or give clips that have it"
            raise DataError(f"modality {modality}", "not one of the clips has it", mend)
        if any(lacking):
            several = sum(share > 0 for share in lacking)
            console.note(f"{several} clips lack {modality}, {sum(s == 1 for s in lacking)} of them all along")


def _training(
    request: Request, preset: Any, model: BranchModel, cache: ClipCache, console: Console
) -> Training:
    loss = MODELS[request.model].loss
    root = request.runs or cache_folder("runs")
    folder = root / f"{request.model}-{request.preset}-{_run_key(request, preset, cache)}"
    console.note(f"training results: {folder}")
    run = TrainingRun(folder, request.seed, request.hardware, request.resume, sys.stdout.isatty())
    rollout_loss: RolloutLoss | None = partial(loss, preset=preset) if loss else None
    return Training(model, preset.recipe, rollout_loss, cache, run, console.note, request.model)


def _run_key(request: Request, preset: Any, cache: ClipCache) -> str:
    """Names the training by all that decides its outcome; the target does not, so that targets share it."""
    init = hashlib.sha256(request.init.read_bytes()).hexdigest() if request.init else None
    clips = [cache.fingerprint, cache.rate_hz, cache.clip_steps]
    facts = [TRAINING_FORMAT, asdict(preset), *clips, request.seed, init, request.wanted_precisions]
    return hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()[:12]


def _pack(request: Request, training: Training, trained: Trained, console: Console) -> Bundle:
    """Split, verify, profile and write: nothing is at ``out`` before every gate has passed."""
    cache, contents = training.cache, trained.contents
    run_here = [target.run_here for target in request.targets]
    val = cache.split("val")
    with tempfile.TemporaryDirectory(prefix="adaptive-compile-") as scratch:
        graphs, draft = Path(scratch) / "graphs", Path(scratch) / "draft.bundle"
        graphs.mkdir()
        console.stage("split")
        parts = split(contents, run_here, graphs)
        fields = _fields(request, training, parts)
        bundle = write_bundle(draft, graphs, fields)
        console.stage("verify")
        with open_engine(bundle, "cpu") as engine, request.open_meter() as meter:
            gates = _verify(bundle, engine, run_here[0], contents, cache, val)
            costs = measure(bundle, engine, cache, val, meter)
            variants = _priced(bundle, training, trained.policy_stage)
            variants = _responding(variants, bundle, engine, cache, _spread(val, _GATE_CLIPS), costs)
        fields = fields | {"cost_tables": (costs,), "variants": variants}
        bundle = write_bundle(draft, graphs, fields)
        gates = [*parts.gates, *gates]
        gates += verify_streaming(bundle, contents, cache, _spread(val, _STREAMED_CLIPS))
        for target in run_here[1:]:
            shares = (_spread(val, count) for count in (_GATE_CLIPS, _MORE_GATE_CLIPS, _STREAMED_CLIPS))
            gates += verify_target(bundle, target, contents, cache, *shares)
        for gate in gates:
            console.note(f"{'passed' if gate.passed else 'FAILED'}: {gate.name}: {gate.saw}")
        require(gates)
        console.stage("profile")
        with open_engine(bundle, "cpu") as engine:
            measured = profile(bundle, engine, costs, cache, val, console.note)
        accuracy: dict[str, JsonValue] = {
            **measured.to_json(),
            "verdicts": list(verdicts(bundle.manifest, measured)),
            "gates": [asdict(gate) for gate in gates],
            "precisions": [one.to_json() for one in trained.measured],
            "dropped": list(trained.lines),
        }
        console.stage("pack")
        report = write_report(bundle.manifest, measured, gates, cache, trained.measured, trained.lines)
        (graphs / "report.html").write_text(report, "utf-8")
        parts = write_again(parts, contents, request.targets, graphs)
        packed = write_bundle(request.out, graphs, fields | {"accuracy": accuracy, "graphs": parts.graphs})
    for target in request.targets:
        if target.stand_in is not None:
            console.note(_unproven(target))
    for line in verdicts(packed.manifest, measured):
        console.note(line)
    return packed


def _unproven(target: Target) -> str:
    """What was not run of a target."""
    return (
        f"{target.name}: its graphs for {target.providers[0]} do not run on this machine; the same networks "
        f"for {target.stand_in} were checked and measured in their place"
    )


def _priced(bundle: Bundle, training: Training, stage: str | None) -> tuple[Variant, ...]:
    """The variants with the price that was chosen after training."""
    if stage is None:
        return bundle.manifest.variants
    chosen = load_price(training.price_file(stage))
    return tuple(variant.model_copy(update={"price": chosen}) for variant in bundle.manifest.variants)


def _responding(
    variants: tuple[Variant, ...],
    bundle: Bundle,
    engine: Engine,
    cache: ClipCache,
    clips: list[int],
    costs: CostTable,
) -> tuple[Variant, ...]:
    """The variants with how their policies answer to the price."""

    def responding(variant: Variant) -> Variant:
        if variant.policy is None:
            return variant
        evaluator = Evaluator(bundle.manifest, variant, engine, cache, clips)
        return variant.model_copy(update={"response": price_response(evaluator, costs)})

    return tuple(map(responding, variants))


def _verify(
    bundle: Bundle, engine: Engine, target: Target, contents: Contents, cache: ClipCache, val: list[int]
) -> list[Gate]:
    spread = partial(_spread, val)
    gates = verify_graphs(bundle, engine, contents, cache, spread(_GATE_CLIPS), spread(_MORE_GATE_CLIPS))
    return gates + verify_integers(bundle, target)


def _spread(clips: list[int], count: int) -> list[int]:
    """At most ``count`` of the clips, evenly spread (clips lie class by class)."""
    return [clips[i * len(clips) // count] for i in range(count)] if len(clips) > count else clips


def _fields(request: Request, training: Training, parts: Split) -> dict[str, object]:
    cache = training.cache
    return {
        "model": request.model,
        "preset": request.preset,
        "target": request.target.name,
        "labels": cache.labels,
        "views": tuple(training.model.views.values()),
        "steps": Steps(rate_hz=cache.rate_hz, clip_steps=cache.clip_steps, segment_s=cache.segment_s),
        "fusion": training.model.fusion_of(cache.clip_steps),
        "graphs": parts.graphs,
        "stores": parts.stores,
        "variants": parts.variants,
        "default_variant": parts.variants[0].name,
        "provenance": _provenance(request, training),
    }


def _provenance(request: Request, training: Training) -> dict[str, JsonValue]:
    return {
        "command": " ".join(sys.argv),
        "dataset": str(request.data) if request.data else "built-in",
        "dataset_sha256": training.cache.fingerprint,
        "init": str(request.init) if request.init else None,
        "seed": request.seed,
        "precisions": list(request.wanted_precisions or ()),
        "keep_all_precisions": request.keep_all_precisions,
        "policy_costs": "modelled BitOps" if request.modelled_costs else str(request.costs or "measured"),
        "recipe": json.loads(json.dumps(asdict(training.recipe))),
        "python": platform.python_version(),
        "machine": platform.platform(),
        "versions": {name: importlib.metadata.version(name) for name in _VERSIONED},
    }


def check_request(model: str, preset: str) -> None:
    """Raises: CompileError that lists the known models or presets."""
    if model not in MODELS:
        raise CompileError(f"model {model}", "is unknown", f"use one of {', '.join(MODELS)}")
    presets = MODELS[model].presets
    if preset not in presets:
        raise CompileError(f"preset {preset}", f"is unknown to {model}", f"use one of {', '.join(presets)}")


def check_modalities(model: str, preset: str, names: Sequence[str]) -> None:
    """Raises: CompileError if the model does not choose among modalities, or these are not what it knows."""
    given = f"modalities {','.join(names) or 'none'}"
    known = getattr(MODELS[model].presets[preset], "branches", {})
    if MODELS[model].of_modalities is None:
        mend = "leave --modalities out, or use adamml or joint"
        raise CompileError(given, f"{model} sees pictures alone", mend)
    if not names or len(set(names)) != len(names) or not set(names) <= set(known):
        reason = "name one twice" if len(set(names)) != len(names) else "are not what the model knows"
        raise CompileError(given, reason, f"give some of {', '.join(known)}, each once")


def check_precisions(request: Request) -> None:
    """Raises: CompileError if what is asked of precisions is unknown, not to be had, or without effect."""
    names = request.wanted_precisions
    if request.costs is not None:
        read_costs(request.costs, ())
    if request.modelled_costs and MODELS[request.model].loss is None:
        reason = "has no policy to train on costs"
        raise CompileError(f"model {request.model}", reason, "leave --modelled-costs out")
    if names is None:
        if request.keep_all_precisions or request.modelled_costs or request.costs:
            reason = f"has a variant per precision of {request.model}, so nothing is chosen by its cost"
            raise CompileError("the bundle", reason, "give --precisions, or leave out what is about them")
        return
    known = ", ".join(MIXABLE)
    if not names or len(set(names)) != len(names) or not set(names) <= set(MIXABLE):
        given = ",".join(names) or "none"
        raise CompileError(f"precisions {given}", "are not bit-widths", f"give some of {known}, each once")
    if set(names) - {"fp32"} and "int8" not in request.target.precisions:
        has = ", ".join(request.target.precisions)
        raise CompileError(f"target {request.target.name}", f"has no integer path, only {has}", "use another")
    if multibit_of(MODELS[request.model].presets[request.preset], names) is None:
        lower = sorted(set(names) - {"fp32", "int8"})
        if lower:
            reason = f"of {request.model} are trained apart, and {', '.join(lower)} only with a shared store"
            raise CompileError("precisions", reason, "use fp32,int8, or --model videoiq or coquant")
