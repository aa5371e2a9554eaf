"""``adaptive-inspect``: verify a bundle and show what is in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from runtimes.bundle import Bundle
from runtimes.errors import BundleError, NotABundleError
from runtimes.spec import CostTable, Manifest, OperatingFront, Option
from runtimes.words import counted
from sdk.cli.command import FAILED_LIMIT, Version, fail, run_command
from sdk.power import MeterInfo, discover
from sdk.tables import console, table


def inspect(
    bundle: Annotated[Path | None, typer.Argument(help="The bundle, a folder or a zip.")] = None,
    partial: Annotated[bool, typer.Option(help="Let low planes be missing, and show which.")] = False,
    power: Annotated[bool, typer.Option("--power", help="Show the power meters of this machine.")] = False,
    version: Version = False,
) -> int:
    """Verify every file of BUNDLE, and show its graphs, options, views, costs, accuracy and provenance."""
    if power:
        console().print(_meters(discover()))
    if bundle is None:
        return 0 if power else fail("BUNDLE: is missing; give a bundle, or --power")
    try:
        opened = Bundle.open(bundle, partial)
        tables = (*opened.device_costs(), *opened.manifest.cost_tables)
    except NotABundleError:  # a mistake, as any other; what follows is found by looking
        raise
    except BundleError as error:
        return fail(str(error), FAILED_LIMIT)
    manifest = opened.manifest
    out = console()
    out.print(_headline(manifest), soft_wrap=True)
    out.print(_graphs(manifest))
    if manifest.stores:
        out.print(_stores(opened))
    out.print(_views(manifest), _options(manifest))
    for front in manifest.fronts:
        out.print(_points(front))
    for costs in tables:
        out.print(_costs(costs))
    for line in (*_accuracy(manifest), *_provenance(manifest)):
        out.print(line, soft_wrap=True, markup=False)
    out.print(_verdict(opened), soft_wrap=True)
    return 0


def _meters(meters: Sequence[MeterInfo]) -> Table:
    rows = table("meter", "kind", "reads")
    for meter in meters:
        rows.add_row(meter.name, meter.kind, meter.source or f"nothing: {meter.problem}")
    return rows


def _headline(manifest: Manifest) -> str:
    targets = " and ".join(manifest.targets)
    return (
        f"{manifest.model} ({manifest.preset}) for {targets}: {len(manifest.labels)} labels, "
        f"{manifest.steps.rate_hz:g} steps/s, trained on {counted(manifest.steps.clip_steps, 'step')}, "
        f"fusion over {counted(manifest.fusion.window, 'step')}"
    )


def _graphs(manifest: Manifest) -> Table:
    rows = table("graph", "target", "role", "precision", "MB", "weights", "MMACs by view")
    for graph in manifest.graphs:
        size = _megabytes(manifest, graph.file, *graph.weight_files)
        weights = f"{graph.bits} bits of {graph.store}" if graph.store else "its own"
        macs = ", ".join(f"{view} {count / 1e6:.1f}" for view, count in graph.macs.items())
        rows.add_row(graph.name, graph.target, graph.role, graph.precision, size, weights, macs)
    return rows


def _stores(bundle: Bundle) -> Table:
    rows = table("store", "tensors", "always 8 bits", "M codes", "for bits", "file", "MB", "state")
    manifest = bundle.manifest
    for store in manifest.stores:
        widths = sorted({graph.bits for graph in manifest.graphs if graph.store == store.name and graph.bits})
        codes = sum(tensor.size for tensor in store.tensors)
        whole = sum(not tensor.nested for tensor in store.tensors)
        counts = (str(len(store.tensors)), str(whole), f"{codes / 1e6:.2f}")
        for file in (store.high, store.low):
            bits = ", ".join(str(width) for width in widths if file in store.planes(width))
            state = "missing" if file in bundle.missing else "verified"
            rows.add_row(store.name, *counts, bits, file, _megabytes(manifest, file), state)
    return rows


def _megabytes(manifest: Manifest, *files: str) -> str:
    return f"{sum(manifest.files[file].bytes for file in files) / 1e6:.2f}"


def _views(manifest: Manifest) -> Table:
    rows = table("view", "modality", "px", "resize")
    for view in manifest.views:
        rows.add_row(view.name, view.modality, str(view.size), view.resize)
    return rows


def _options(manifest: Manifest) -> Table:
    rows = table("variant", "price", "group", "option", "runs")
    for variant in manifest.variants:
        name = f"{variant.name} (default)" if variant.name == manifest.default_variant else variant.name
        for group in variant.action_space.groups:
            for option in group.options:
                rows.add_row(name, f"{variant.price:g}", group.name, option.name, _what_runs(option))
    return rows


def _points(front: OperatingFront) -> Table:
    title = f"operating points of {front.variant}, judged on {front.judged_on}"
    rows = table("point", "kind", "right", "95 %", "ms a clip", "mJ a clip", "remembers", title=title)
    for point in (*front.points, front.dense):
        of_dense = point is front.dense
        name = f"dense: {point.name}" if of_dense else point.name
        rows.add_row(
            f"{name} (default)" if point.name == front.default and not of_dense else name,
            point.kind,
            f"{point.accuracy.mean:.1%}",
            f"{point.accuracy.low:.1%} to {point.accuracy.high:.1%}",
            f"{point.ms:.2f}",
            "" if point.mj is None else f"{point.mj:.2f}",
            "" if point.memory_steps is None else counted(point.memory_steps, "step"),
        )
    return rows


def _verdict(bundle: Bundle) -> str:
    files, missing = bundle.manifest.files, bundle.missing
    if not missing:
        return f"all {len(files)} files are as the manifest says"
    there = f"{len(files) - len(missing)} of {len(files)} files are as the manifest says"
    idle = sorted(bundle.absent())
    return f"{there}; missing: {', '.join(sorted(missing))}, without which {', '.join(idle)} cannot run"


def _what_runs(option: Option) -> str:
    if option.skip:
        return f"nothing, for {counted(option.skip, 'step')}"
    return f"{option.graph} on {option.view} ({option.precision})"


def _costs(costs: CostTable) -> Table:
    title = f"{costs.device}, {', '.join(costs.providers)}, {counted(costs.threads, 'thread')}"
    rows = table("graph", "view", "p50 ms", "p95 ms", "with resizing", "mJ", title=title)
    for row in costs.graphs:
        energy = "" if row.energy_mj is None else f"{row.energy_mj:.2f}"
        whole = f"{costs.graph_ms(row.graph, row.view):.2f}"
        rows.add_row(row.graph, row.view, f"{row.p50_ms:.2f}", f"{row.p95_ms:.2f}", whole, energy)
    return rows


def _accuracy(manifest: Manifest) -> list[str]:
    """What the compiler found the bundle to be worth; every number is in the manifest and the report."""
    verdicts, gates = manifest.accuracy.get("verdicts"), manifest.accuracy.get("gates")
    lines = [str(verdict) for verdict in verdicts] if isinstance(verdicts, list) else []
    if isinstance(gates, list):
        lines.append(f"{len(gates)} gates passed when it was compiled")
    return lines


def _provenance(manifest: Manifest) -> list[str]:
    return [f"{key}: {value}" for key, value in manifest.provenance.items() if not isinstance(value, dict)]


def main() -> None:
    """Entry point."""
    run_command(inspect)
