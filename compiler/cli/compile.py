"""``adaptive-compile``: from clips to a bundle, stage by stage."""

from __future__ import annotations

import hashlib
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from compiler.cli.stage_console import STAGES, StageConsole
from compiler.cli.stage_times import StageTimes
from compiler.data.clips import find_clips
from compiler.data.probes import require_modalities
from compiler.export.writers import require_runtime
from compiler.pipeline import build_model, compile_bundle, follow_data
from compiler.request import (
    DataRequest,
    MeasuringRequest,
    ModelRequest,
    PrecisionRequest,
    Request,
    TrainingRequest,
    check_model,
    check_precisions,
    check_runs_folder,
)
from compiler.targets import TARGETS, find_targets
from compiler.training.run import Hardware
from models.methods.registry import METHODS
from runtimes.bundle import check_destination
from runtimes.cache import cache_folder
from runtimes.errors import ArgumentError
from sdk.cli.command import Version, run_command


def _stage_times(request: Request) -> StageTimes:
    """Those of compiles of the same model, preset, targets, data and epochs."""
    model, how = request.model, request.training
    targets = [target.name for target in request.targets]
    facts = [model.name, model.preset, *targets, request.data.folder, how.epochs, how.batch, how.folds]
    key = hashlib.sha256(repr(facts).encode()).hexdigest()[:12]
    return StageTimes(cache_folder("stage-times") / f"{key}.json")


def _print_targets(wanted: bool) -> None:
    if not wanted:
        return
    table = Table("target", "runtime", "int8 activations", "precisions", "providers", "for")
    for target in TARGETS.values():
        precisions, providers = ", ".join(target.precisions), ", ".join(target.providers)
        table.add_row(
            target.name, target.runtime, target.activations, precisions, providers, target.description
        )
    Console().print(table)
    raise typer.Exit


def compile_model(
    model: Annotated[str, typer.Option(help=f"The model: {', '.join(METHODS)}.")],
    target: Annotated[
        str, typer.Option(help="The device class, or several with commas: see --list-targets.")
    ],
    preset: Annotated[str, typer.Option(help="Its size: tiny, mobile or paper.")] = "tiny",
    data: Annotated[
        Path | None,
        typer.Option(
            help="A folder per class, or a csv path,label[,group][,split]; default: built-in clips."
        ),
    ] = None,
    init: Annotated[
        Path | None, typer.Option(help="Weights to start from: a state dict, or an .npz.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The bundle; default MODEL-PRESET-TARGET.bundle.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of weights, batches and built-in clips.")] = 0,
    rate_hz: Annotated[
        float | None,
        typer.Option(min=0.001, max=1000, help="Steps a second; default: such that most clips fit."),
    ] = None,
    flip: Annotated[
        bool | None, typer.Option("--flip/--no-flip", help="Mirror training clips; default: the preset's.")
    ] = None,
    runs: Annotated[
        Path | None, typer.Option(help="Where training results are kept, to be taken again.")
    ] = None,
    precisions: Annotated[
        str | None, typer.Option(help="One policy over these, e.g. fp32,int8,int4; default: the model's.")
    ] = None,
    modalities: Annotated[
        str | None, typer.Option(help="What the model chooses among, e.g. rgb,audio,flow; default: its own.")
    ] = None,
    keep_all_precisions: Annotated[
        bool, typer.Option(help="Also those that cost no less than a more accurate one.")
    ] = False,
    modeled_costs: Annotated[
        bool, typer.Option(help="Train the policy on modeled BitOps instead of measured ms.")
    ] = False,
    costs: Annotated[
        Path | None, typer.Option(help="The device's own cost table, as adaptive-bench wrote it.")
    ] = None,
    meter: Annotated[
        str | None,
        typer.Option(
            help="Measure energy here: auto, a meter of adaptive-inspect --power, or modeled:IDLE_W,MORE_W."
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Of every stage; default: the preset's.")] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Judge operating points by so many folds of the training clips; 1 holds a share out, 0 "
            "makes none; default: the preset's.",
        ),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Clips to a batch, in every stage; default: the preset's.")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Continue an interrupted stage from its last epoch.")] = False,
    dry_run: Annotated[
        bool, typer.Option(help="Check everything, say what would be done, and stop.")
    ] = False,
    accelerator: Annotated[str, typer.Option(help="Lightning's: auto, cpu, gpu.")] = "auto",
    devices: Annotated[str, typer.Option(help="Lightning's: a number, a list, or auto.")] = "auto",
    num_nodes: Annotated[int, typer.Option(help="Lightning's.")] = 1,
    strategy: Annotated[str, typer.Option(help="Lightning's: auto, ddp, fsdp.")] = "auto",
    precision: Annotated[
        str | None, typer.Option(help="Lightning's: 32-true, 16-mixed, bf16-mixed; default by accelerator.")
    ] = None,
    list_targets: Annotated[
        bool,
        typer.Option(
            "--list-targets", callback=_print_targets, is_eager=True, help="Print the targets and exit."
        ),
    ] = False,
    version: Version = False,
) -> int:
    """Train an adaptive model, quantize it, split it, verify it, measure it, and pack a bundle."""
    request = Request(
        ModelRequest(model, preset, init, _names(modalities)),
        find_targets(target),
        out or Path(f"{model}-{preset}-{target.replace(',', '+')}.bundle"),
        DataRequest(data, rate_hz, flip),
        PrecisionRequest(_names(precisions), keep_all_precisions, modeled_costs),
        TrainingRequest(
            seed,
            epochs,
            batch_size,
            folds,
            runs,
            resume,
            Hardware(accelerator, devices, num_nodes, strategy, precision),
        ),
        MeasuringRequest(costs, meter),
    )
    check_model(request.model)
    check_runs_folder(request.training)
    with request.measuring.open_meter():  # hours before it is needed
        pass
    check_precisions(request)
    for wanted in request.targets:
        require_runtime(wanted)
    request.training.hardware.check()
    if dry_run:
        return _describe(request, StageConsole())
    console = StageConsole(_stage_times(request), STAGES - (folds == 0))
    try:
        bundle = compile_bundle(request, console)
    except KeyboardInterrupt:
        print(
            "interrupted: no bundle was written; finished stages are kept in the folder of training results "
            "above. The same command goes on after them, and with --resume from the last epoch of the next.",
            file=sys.stderr,
        )
        raise
    console.finish()
    console.note(f"wrote {bundle.location} ({_megabytes(bundle.folder):.1f} MB); see report.html in it")
    return 0


def _names(listed: str | None) -> tuple[str, ...] | None:
    """The names in a list with commas between; None if there is no list."""
    return None if listed is None else tuple(filter(None, map(str.strip, listed.split(","))))


def _describe(request: Request, console: StageConsole) -> int:
    """What a compile would do; user data is listed and checked, nothing is decoded."""
    names = " and ".join(target.name for target in request.targets)
    console.stage(f"would compile {request.model.name} {request.model.preset} for {names}")
    labels: tuple[str, ...] = ("one", "other")
    if request.data.folder is None:
        console.note("data: the built-in clips")
    else:
        clips = find_clips(request.data.folder)
        labels = clips.labels
        console.note(
            f"data: {len(clips.clips)} clips of {len(clips.labels)} classes in {request.data.folder}"
            + (f"; {clips.test_clips} test clips are left alone" if clips.test_clips else "")
        )
        request = follow_data(request, clips, console)
        require_modalities(clips, request.model.chosen_modalities)
    init = request.model.init
    if init is not None and not init.is_file():
        raise ArgumentError(init, "no such file", "check the path given to --init")
    _, model = build_model(request, labels, console)
    check_destination(request.out)
    precisions = request.precisions or request.target.precisions
    console.note(f"precisions: {', '.join(precisions)}")
    console.note(f"sees: {', '.join(sorted({view.modality for view in model.views.values()}))}")
    console.note(f"bundle: {request.out}")
    return 0


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def main() -> None:
    """The ``adaptive-compile`` command."""
    # Libraries' hints to developers are not for the people who run this.
    warnings.filterwarnings("ignore", module=r"(lightning|brevitas|torch)(\.|$)")
    run_command(compile_model)
