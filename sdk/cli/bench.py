"""``adaptive-bench``: measure a bundle on this device, keep the costs beside it, and check a limit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from runtimes.bundle import Bundle
from sdk.bench import DEFAULT_SOURCE, BenchReport, bench
from sdk.cli.command import FAILED_LIMIT, Version, fail, run_command
from sdk.cli.display import print_json
from sdk.switching import SwitchCost


def measure(
    bundle: Annotated[Path, typer.Argument(help="The bundle, a folder or a zip.")],
    source: Annotated[
        str, typer.Option(help="A file or test pattern for the whole pipeline.")
    ] = DEFAULT_SOURCE,
    runs: Annotated[int, typer.Option(help="Runs of each graph and each view.")] = 50,
    variant: Annotated[str | None, typer.Option(help="Variant for the whole pipeline.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or tensorrt.")] = "auto",
    allow_fallback: Annotated[bool, typer.Option(help="Run on the CPU if the device is missing.")] = False,
    threads: Annotated[int | None, typer.Option(help="Threads of a branch; one per core.")] = None,
    max_p95_ms: Annotated[
        float | None, typer.Option(help="Fail if a graph or the pipeline is above.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
    version: Version = False,
) -> int:
    """Measure BUNDLE here and write BUNDLE.cost.json, by which options are priced on this device."""
    report = bench(
        bundle,
        device,
        source=source,
        runs=runs,
        variant=variant,
        threads=threads,
        allow_fallback=allow_fallback,
    )
    saved = Bundle.open(bundle).save_device_costs(report.costs)
    if as_json:
        print_json(report)
    else:
        _print_tables(report, saved)
    exceeding = [] if max_p95_ms is None else report.exceeding(max_p95_ms)
    return fail(f"above {max_p95_ms} ms: {'; '.join(exceeding)}", FAILED_LIMIT) if exceeding else 0


def _print_tables(report: BenchReport, saved: Path) -> None:
    costs, load = report.costs, report.load
    memory = "not measured" if report.memory_mb is None else f"{report.memory_mb:.0f} MB"
    console = Console(highlight=False)
    console.print(f"{costs.device}, {', '.join(costs.providers)}, {costs.threads} threads; memory {memory}")
    console.print(
        f"verified in {load.verify_ms:.0f} ms, opened in {load.graphs_ms:.0f} ms, "
        f"first result after {load.first_result_ms:.0f} ms"
    )
    console.print(_costs_table(report), _pipeline_table(report))
    if report.switching is not None:
        console.print(_switching_line(report.switching), soft_wrap=True)
    console.print(f"costs written to {saved}", soft_wrap=True)


def _costs_table(report: BenchReport) -> Table:
    table = Table("graph", "view", "p50 ms", "p95 ms", "MB")
    for row in report.costs.graphs:
        memory = "" if row.memory_mb is None else f"{row.memory_mb:.1f}"
        table.add_row(row.graph, row.view, f"{row.p50_ms:.3f}", f"{row.p95_ms:.3f}", memory)
    for view in report.costs.views:
        table.add_row("(resizing)", view.view, f"{view.p50_ms:.3f}", f"{view.p95_ms:.3f}", "")
    return table


def _pipeline_table(report: BenchReport) -> Table:
    pipeline = report.pipeline
    table = Table("pipeline", "mean ms", "p50 ms", "p95 ms", "choices", title=f"variant {pipeline.variant}")
    rows = (
        (f"{pipeline.chosen} (x{pipeline.speed_up:.2f})", pipeline.adaptive_mean_ms, pipeline.adaptive),
        (f"always {pipeline.dense_option}", pipeline.dense_mean_ms, pipeline.dense),
    )
    for name, mean_ms, statistics in rows:
        total = statistics.latency_ms["total"]
        choices = ", ".join(f"{choice} {count}" for choice, count in statistics.choices.items())
        table.add_row(name, f"{mean_ms:.2f}", f"{total.p50:.2f}", f"{total.p95:.2f}", choices)
    return table


def _switching_line(cost: SwitchCost) -> str:
    extra = f"{cost.ratio - 1:+.1%} ± {cost.spread:.1%}"
    return (
        f"changing the branch at every frame ({', '.join(cost.branches)}): {cost.changing_ms:.2f} ms where "
        f"staying takes {cost.staying_ms:.2f} ms, {extra}"
    )


def main() -> None:
    """Entry point."""
    run_command(measure)
