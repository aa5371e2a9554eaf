"""``adaptive-evaluate``: what a bundle's operating points come to on any labeled clips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from compiler.cli.evaluate_streams import labeled_streams, print_streams, read_streams
from compiler.cli.stage_console import StageConsole
from compiler.data.cache import ClipCache
from compiler.data.clips import EVALUATED_SPLITS, require_readable
from compiler.data.loading import find_judged_clips
from compiler.data.streams.labeled_streams import is_stream_listing
from compiler.measuring.confusion import Confusion, draw_confusion, write_confusion
from compiler.measuring.evaluation import Evaluator
from compiler.operating_points.admission import group_draws
from compiler.operating_points.answers import Answers
from compiler.operating_points.candidates import Candidate
from compiler.operating_points.evaluating import Evaluation, evaluate_front
from compiler.operating_points.gathering import gather
from compiler.operating_points.summary import budget_lines, verdict_line
from runtimes.bundle import Bundle
from runtimes.cache import cache_folder
from runtimes.device import device_name
from runtimes.engines.engine import Engine, open_engine
from runtimes.errors import ArgumentError, BundleError
from runtimes.spec import CostTable, OperatingFront
from sdk.cli.command import Version, run_command
from sdk.decisions.points.front_choice import point_named
from sdk.tables import console, table

_SUFFIXES = (".csv", ".png", ".svg", ".pdf")


def evaluate(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle: a folder or zip.")],
    data: Annotated[
        Path | None,
        typer.Option(
            help="A folder per class, or a csv path,label[,group][,split]: videos or images. Or streams with "
            "times: a csv path,start_s,end_s,label[,group][,split], or ActivityNet's JSON. Default: the "
            "built-in validation clips, for a bundle that was trained on built-in ones."
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="test, val, train or all; default: test, else val, else all clips.")
    ] = None,
    variant: Annotated[str | None, typer.Option(help="E.g. int8; default: the bundle's.")] = None,
    point: Annotated[
        str | None, typer.Option(help="The point of the class table and matrix; default: the bundle's.")
    ] = None,
    schedules: Annotated[bool, typer.Option(help="Also list every schedule.")] = False,
    confusion: Annotated[
        Path | None, typer.Option(help="Write the confusion matrix: .csv, or .png, .svg or .pdf as a plot.")
    ] = None,
    compose: Annotated[
        str | None,
        typer.Option(
            "--compose-streams",
            help="Make streams of the clips, e.g. idle=0.8,streams=30,onset_s=1, and evaluate on these.",
        ),
    ] = None,
    version: Version = False,
) -> int:
    """Accuracy with intervals, per class, and cost of every operating point of BUNDLE on labeled clips."""
    opened = Bundle.open(bundle)
    front = _front(opened, variant)
    chosen = point_named(front, point or front.default).name
    _check(split, confusion)
    if compose is not None or (data is not None and is_stream_listing(data)):
        for name, given in (("--confusion", confusion), ("--point", point)):
            if given is not None:
                raise ArgumentError(f"{name} {given}", "is for clips, not for streams", "leave it out")
        return _evaluate_streams(opened, front, data, split, compose, schedules=schedules)
    clips = find_judged_clips(data, opened.manifest, split)
    steps, stages = opened.manifest.steps, StageConsole()
    with stages.progress("decoding clips") as advance:
        cache = ClipCache.build(
            clips,
            opened.manifest.views,
            steps.rate_hz,
            steps.clip_steps,
            cache_folder("clips"),
            advance,
            segment_s=steps.segment_s,
            require=require_readable,
        )
    with open_engine(opened, "cpu") as engine:
        costs = _costs(opened, engine)
        answers = _answers(opened, front, engine, cache, costs, stages)
    found = evaluate_front(front, answers, costs)
    outcome = next(one for one in found.points if one.name == chosen)
    for path, reason in cache.rejected:
        stages.note(f"left out: {path}: {reason}")
    _print(opened, found, outcome, schedules=schedules)
    if confusion is not None:
        matrix = Confusion.of(answers.targets, outcome.best, opened.manifest.labels)
        (write_confusion if confusion.suffix == ".csv" else draw_confusion)(matrix, confusion)
        stages.note(f"wrote {confusion}")
    return 0


def _evaluate_streams(
    bundle: Bundle,
    front: OperatingFront,
    data: Path | None,
    split: str | None,
    compose: str | None,
    *,
    schedules: bool,
) -> int:
    stages = StageConsole()
    streams = labeled_streams(data, bundle.manifest, split, compose, stages)
    with open_engine(bundle, "cpu") as engine:
        costs = _costs(bundle, engine)
        answers, signal_ms = read_streams(bundle, front, engine, streams, stages)
    for path, reason in streams.rejected:
        stages.note(f"left out: {path}: {reason}")
    if streams.overlaps:
        stages.note(f"{streams.overlaps} events overlap an earlier one, and were cut to what is after it")
    print_streams(bundle, front, answers, costs, signal_ms, schedules=schedules)
    return 0


def _front(bundle: Bundle, variant: str | None) -> OperatingFront:
    chosen = bundle.variant(variant)
    front = bundle.manifest.front(chosen.name)
    if front is None:
        reason = f"has no operating points for variant {chosen.name}"
        raise BundleError(bundle.location, reason, "compile it again, without --folds 0")
    return front


def _check(split: str | None, confusion: Path | None) -> None:
    if split is not None and split not in EVALUATED_SPLITS:
        raise ArgumentError(f"split {split}", "is not known", f"use one of {', '.join(EVALUATED_SPLITS)}")
    if confusion is None:
        return
    if confusion.suffix not in _SUFFIXES:
        raise ArgumentError(
            confusion, "is neither a csv nor a plot", f"end its name in {', '.join(_SUFFIXES)}"
        )
    if not confusion.absolute().parent.is_dir():
        raise ArgumentError(confusion, "its folder does not exist", "make it, or name another")


def _costs(bundle: Bundle, engine: Engine) -> CostTable:
    costs = bundle.costs(device_name(), engine.provider)
    if costs is None:
        raise BundleError(bundle.location, "has no cost table", "run adaptive-bench on it")
    return costs


def _answers(
    bundle: Bundle,
    front: OperatingFront,
    engine: Engine,
    cache: ClipCache,
    costs: CostTable,
    stages: StageConsole,
) -> Answers:
    evaluator = Evaluator(
        bundle.manifest, bundle.variant(front.variant), engine, cache, range(len(cache.clips))
    )
    with stages.progress("running every look") as advance:
        prices = [point.price for point in front.points if point.price is not None]
        return gather(evaluator, costs, advance, prices)


def _print(bundle: Bundle, found: Evaluation, outcome: Candidate, *, schedules: bool) -> None:
    out, manifest = console(), bundle.manifest
    for line in (verdict_line(manifest.model, found), *budget_lines(found)):
        out.print(line, soft_wrap=True, markup=False)
    out.print(_points(found))
    if schedules:
        out.print(_schedules(found))
    out.print(_classes(found, outcome, manifest.labels))


def _points(found: Evaluation) -> Table:
    rows = table("point", "right", "95 %", "probability", f"{found.unit} a clip", "of dense", "chosen at")
    draws, dense = group_draws(found.answers.groups), float(found.dense.cost.mean())
    stated = {point.name: f"{point.accuracy.mean:.1%}" for point in found.front.points}
    shown = [(one.name, one) for one in found.points]
    shown += [(f"dense: {found.dense.name}", found.dense)]
    shown += [("control: oracle stop", found.oracle_stop), ("control: random stop", found.random_stop)]
    for name, one in shown:
        low, high = np.quantile(draws @ one.right.astype(np.float64), (0.025, 0.975))
        cost = float(one.cost.mean())
        rows.add_row(
            name + (" (default)" if name == found.front.default else ""),
            f"{one.right.mean():.1%}",
            f"{low:.1%} to {high:.1%}",
            f"{one.true_probability.mean():.3f}",
            f"{cost:.3f}",
            f"{cost / dense:.0%}",
            stated.get(name, ""),
        )
    return rows


def _schedules(found: Evaluation) -> Table:
    rows = table("schedule", "right", f"{found.unit} a clip", title="every schedule")
    for one in sorted(found.schedules, key=lambda one: float(one.cost.mean())):
        rows.add_row(one.name, f"{one.right.mean():.1%}", f"{one.cost.mean():.3f}")
    return rows


def _classes(found: Evaluation, outcome: Candidate, labels: Sequence[str]) -> Table:
    rows = table("class", "clips", "recall", "precision", title=f"{outcome.name}, by class")
    targets = found.answers.targets
    for place, label in enumerate(labels):
        own, said = targets == place, outcome.best == place
        recall = f"{outcome.right[own].mean():.1%}" if own.any() else "no clips"
        precision = f"{(targets[said] == place).mean():.1%}" if said.any() else "never said"
        rows.add_row(label, str(int(own.sum())), recall, precision)
    return rows


def main() -> None:
    """The ``adaptive-evaluate`` command."""
    run_command(evaluate)
