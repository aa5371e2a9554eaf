"""``adaptive-bench``: measure a bundle on this device, keep the costs beside it, and check a limit."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from runtimes.bundle import Bundle
from runtimes.errors import ArgumentError
from runtimes.spec import Manifest
from runtimes.words import counted
from sdk.benchmark.bench import DEFAULT_SOURCE, BenchReport, PipelineReport, bench
from sdk.benchmark.comparison import compare_targets
from sdk.benchmark.device_costs import better_kept, open_whole
from sdk.benchmark.sustained import Minute
from sdk.benchmark.switching import SwitchCost
from sdk.cli.command import FAILED_LIMIT, Version, fail, run_command
from sdk.cli.comparison import print_comparison
from sdk.cli.display import print_json
from sdk.power import open_meter
from sdk.tables import console, table


def measure(
    bundle: Annotated[Path, typer.Argument(help="The bundle, a folder or a zip.")],
    source: Annotated[
        str, typer.Option(help="A file or test pattern for the whole pipeline.")
    ] = DEFAULT_SOURCE,
    runs: Annotated[int, typer.Option(help="Runs of each graph and each view.")] = 50,
    variant: Annotated[str | None, typer.Option(help="Variant for the whole pipeline.")] = None,
    target: Annotated[
        str | None, typer.Option(help="One of the bundle's targets; by default its own.")
    ] = None,
    compare: Annotated[
        bool, typer.Option(help="Compare all targets of the bundle side by side, and write nothing.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, tensorrt or gpu.")] = "auto",
    allow_fallback: Annotated[bool, typer.Option(help="Run on the CPU if the device is missing.")] = False,
    threads: Annotated[int | None, typer.Option(help="Threads of a branch; one per core.")] = None,
    max_p95_ms: Annotated[
        float | None, typer.Option(help="Fail if a graph or the pipeline is above, and write nothing.")
    ] = None,
    replace_costs: Annotated[
        bool, typer.Option(help="Replace costs that were measured here with more runs, too.")
    ] = False,
    meter: Annotated[
        str | None,
        typer.Option(
            help="Measure energy: auto, a meter of adaptive-inspect --power, or modeled:IDLE_W,MORE_W, "
            "a model: so much idle, so much more while busy."
        ),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Then stream for so long, and compare the first and last minute.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    version: Version = False,
) -> int:
    """Measure BUNDLE here and write BUNDLE.cost.json, by which options are priced on this device."""
    if max_p95_ms is not None and not 0 < max_p95_ms < float("inf"):
        raise ArgumentError(f"--max-p95-ms {max_p95_ms}", "is not a time in ms", "use more than 0")
    alone = meter is None and minutes is None and max_p95_ms is None and target is None and not replace_costs
    if compare and not alone:
        others = "--meter, --minutes, --max-p95-ms, --target or --replace-costs"
        return fail(f"--compare: takes no {others}; leave them out")
    if compare:
        reports = compare_targets(bundle, device, source=source, runs=runs, variant=variant, threads=threads)
        print_comparison(reports, as_json)
        return 0
    with ExitStack() as opened:
        report = bench(
            bundle,
            device,
            source=source,
            runs=runs,
            variant=variant,
            target=target,
            threads=threads,
            allow_fallback=allow_fallback,
            meter=None if meter is None else opened.enter_context(open_meter(meter)),
            minutes=minutes,
            each_minute=_silent if as_json else _say_minute,
        )
    measured = open_whole(bundle)
    if as_json:
        print_json(report)
    else:
        _print_tables(report, measured.manifest, target)
    exceeding = [] if max_p95_ms is None else report.exceeding(max_p95_ms)
    if exceeding:
        return fail(f"above {max_p95_ms} ms: {'; '.join(exceeding)}; no costs written", FAILED_LIMIT)
    _keep(measured, report, replace_costs, as_json)
    return 0


def _keep(bundle: Bundle, report: BenchReport, replace: bool, as_json: bool) -> None:
    """Keep the costs beside the bundle, unless those kept there are of more runs, and say so."""
    better = None if replace else better_kept(bundle, report.costs)
    if better is not None:
        counts = f"has {better.runs} runs of each graph, and this has {report.costs.runs}"
        print(
            f"costs not written: {bundle.device_costs_path} {counts}; --replace-costs replaces it",
            file=sys.stderr,
        )
        return
    path = bundle.save_device_costs(report.costs)
    if not as_json:
        print(f"costs written to {path}")


def _print_tables(report: BenchReport, manifest: Manifest, target: str | None) -> None:
    costs, load = report.costs, report.load
    memory = "not measured" if report.memory_mb is None else f"{report.memory_mb:.0f} MB"
    threads = counted(costs.threads, "thread")
    out = console()
    out.print(f"{costs.device}, {', '.join(costs.providers)}, {threads}; memory {memory}")
    out.print(
        f"verified in {load.verify_ms:.0f} ms, opened in {load.graphs_ms:.0f} ms, "
        f"first result after {load.first_result_ms:.0f} ms"
    )
    if costs.energy_source is None:
        out.print("energy was not measured: give --meter")
    else:
        out.print(f"energy beyond the idle device's {costs.idle_w:.2f} W; from {costs.energy_source}")
    out.print(_costs_table(report, manifest, target), _pipeline_table(report))
    if report.switching is not None:
        out.print(_switching_line(report.switching), soft_wrap=True)
    if report.sustained:
        out.print(_sustained_line(report), soft_wrap=True)


def _costs_table(report: BenchReport, manifest: Manifest, target: str | None) -> Table:
    rows = table("graph", "view", "p50 ms", "p95 ms", "mJ", "MB")
    for row in report.costs.graphs:
        memory = "" if row.memory_mb is None else f"{row.memory_mb:.1f}"
        if manifest.shares_files(manifest.graph(row.graph, target)):
            memory = "shared"
        rows.add_row(
            row.graph, row.view, f"{row.p50_ms:.3f}", f"{row.p95_ms:.3f}", _mj(row.energy_mj), memory
        )
    for view in report.costs.views:
        spent = f"{view.p50_ms:.3f}", f"{view.p95_ms:.3f}", _mj(view.energy_mj)
        rows.add_row("(resizing)", view.view, *spent, "")
    return rows


def _mj(energy_mj: float | None) -> str:
    return "" if energy_mj is None else f"{energy_mj:.2f}"


def _pipeline_table(report: BenchReport) -> Table:
    pipeline = report.pipeline
    head = ("pipeline", "mean ms", "p50 ms", "p95 ms", "mJ a clip", "choices")
    rows = table(*head, title=f"variant {pipeline.variant}")
    pair = (
        (
            f"{pipeline.chosen} ({_faster(pipeline)})",
            pipeline.adaptive_mean_ms,
            pipeline.adaptive,
            pipeline.adaptive_mj,
        ),
        (f"always {pipeline.dense_option}", pipeline.dense_mean_ms, pipeline.dense, pipeline.dense_mj),
    )
    for name, mean_ms, statistics, energy_mj in pair:
        total = statistics.latency_ms["total"]
        choices = ", ".join(f"{choice} {count}" for choice, count in statistics.choices.items())
        spent = f"{mean_ms:.2f}", f"{total.p50:.2f}", f"{total.p95:.2f}", _mj(energy_mj)
        rows.add_row(name, *spent, choices)
    return rows


def _faster(pipeline: PipelineReport) -> str:
    """How many times as fast as the dense one it is, if that is more than chance."""
    spread = "" if pipeline.spread is None else f" ± {pipeline.spread:.2f}"
    if not pipeline.differs:
        return f"no difference{spread and f' within{spread}'}"
    return f"x{pipeline.speed_up:.2f}{spread}"


def _switching_line(cost: SwitchCost) -> str:
    extra = f"{cost.ratio - 1:+.1%} ± {cost.spread:.1%}"
    if not cost.differs:
        extra = f"no difference within ± {2 * cost.spread:.1%}"
    return (
        f"changing the branch at every frame ({', '.join(cost.branches)}): {cost.changing_ms:.2f} ms where "
        f"staying takes {cost.staying_ms:.2f} ms, {extra}"
    )


def _silent(minute: Minute) -> None:
    """Only the whole is wanted."""


def _say_minute(minute: Minute) -> None:
    parts = [counted(minute.steps, "step"), f"p50 {minute.p50_ms:.2f} ms", f"p95 {minute.p95_ms:.2f} ms"]
    parts.append("power not measured" if minute.power_w is None else f"{minute.power_w:.2f} W")
    hot = "temperature not known" if minute.temperature_c is None else f"{minute.temperature_c:.1f} °C"
    slowed = "throttling not known"
    if minute.slowed_by is not None:
        slowed = f"slowed by {', '.join(minute.slowed_by)}" if minute.slowed_by else "not throttled"
    print(f"minute {minute.number}: {', '.join([*parts, hot, slowed])}", flush=True)


def _sustained_line(report: BenchReport) -> str:
    first, last = report.sustained[0], report.sustained[-1]
    if report.drift is None:
        return "one minute shows no drift: give --minutes 2 or more"
    return (
        f"minute {last.number} against minute 1: p50 {last.p50_ms:.2f} ms where it was "
        f"{first.p50_ms:.2f} ms, {report.drift - 1:+.1%}; p95 {last.p95_ms:.2f} and {first.p95_ms:.2f} ms"
    )


def main() -> None:
    """Entry point."""
    # Threads of OpenMP that wait for work spin by default, at the cost of whatever else runs.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    run_command(measure)
