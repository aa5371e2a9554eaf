"""``adaptive-inspect``: verify a bundle and show what is in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from runtimes.bundle import Bundle
from runtimes.errors import BundleError, NotABundleError
from runtimes.spec import CostTable, Manifest, Option
from sdk.cli.command import FAILED_LIMIT, Version, fail, run_command
from sdk.power import MeterInfo, discover


def inspect(
    bundle: Annotated[Path | None, typer.Argument(help="The bundle, a folder or a zip.")] = None,
    partial: Annotated[bool, typer.Option(help="Let low planes be missing, and show which.")] = False,
    power: Annotated[bool, typer.Option("--power", help="Show the power meters of this machine.")] = False,
    version: Version = False,
) -> int:
    """Verify every file of BUNDLE, and show its graphs, options, views, costs, accuracy and provenance."""
    if power:
        Console(highlight=False).print(_meters(discover()))
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
    console = Console(highlight=False)
    console.print(_headline(manifest), soft_wrap=True)
    console.print(_graphs(manifest))
    if manifest.stores:
        console.print(_stores(opened))
    console.print(_views(manifest), _options(manifest))
    for table in tables:
        console.print(_costs(table))
    for line in (*_accuracy(manifest), *_provenance(manifest)):
        console.print(line, soft_wrap=True, markup=False)
    console.print(_verdict(opened), soft_wrap=True)
    return 0


def _meters(meters: Sequence[MeterInfo]) -> Table:
    table = Table("meter", "kind", "reads")
    for meter in meters:
        table.add_row(meter.name, meter.kind, meter.source or f"nothing: {meter.problem}")
    return table


def _headline(manifest: Manifest) -> str:
    targets = " and ".join(manifest.targets)
    return (
        f"{manifest.model} ({manifest.preset}) for {targets}: {len(manifest.labels)} labels, "
        f"{manifest.steps.rate_hz:g} steps/s, trained on {manifest.steps.clip_steps} steps, "
        f"fusion over {manifest.fusion.window} steps"
    )


def _graphs(manifest: Manifest) -> Table:
    table = Table("graph", "target", "role", "precision", "MB", "weights", "MMACs by view")
    for graph in manifest.graphs:
        size = _megabytes(manifest, graph.file, *graph.weight_files)
        weights = f"{graph.bits} bits of {graph.store}" if graph.store else "its own"
        macs = ", ".join(f"{view} {count / 1e6:.1f}" for view, count in graph.macs.items())
        table.add_row(graph.name, graph.target, graph.role, graph.precision, size, weights, macs)
    return table


def _stores(bundle: Bundle) -> Table:
    table = Table("store", "tensors", "always 8 bits", "M codes", "for bits", "file", "MB", "state")
    manifest = bundle.manifest
    for store in manifest.stores:
        widths = sorted({graph.bits for graph in manifest.graphs if graph.store == store.name and graph.bits})
        codes = sum(tensor.size for tensor in store.tensors)
        whole = sum(not tensor.nested for tensor in store.tensors)
        counts = (str(len(store.tensors)), str(whole), f"{codes / 1e6:.2f}")
        for file in (store.high, store.low):
            bits = ", ".join(str(width) for width in widths if file in store.planes(width))
            state = "missing" if file in bundle.missing else "verified"
            table.add_row(store.name, *counts, bits, file, _megabytes(manifest, file), state)
    return table


def _megabytes(manifest: Manifest, *files: str) -> str:
    return f"{sum(manifest.files[file].bytes for file in files) / 1e6:.2f}"


def _views(manifest: Manifest) -> Table:
    table = Table("view", "modality", "px", "resize")
    for view in manifest.views:
        table.add_row(view.name, view.modality, str(view.size), view.resize)
    return table


def _options(manifest: Manifest) -> Table:
    table = Table("variant", "price", "group", "option", "runs")
    for variant in manifest.variants:
        name = f"{variant.name} (default)" if variant.name == manifest.default_variant else variant.name
        for group in variant.action_space.groups:
            for option in group.options:
                table.add_row(name, f"{variant.price:g}", group.name, option.name, _what_runs(option))
    return table


def _verdict(bundle: Bundle) -> str:
    files, missing = bundle.manifest.files, bundle.missing
    if not missing:
        return f"all {len(files)} files are as the manifest says"
    there = f"{len(files) - len(missing)} of {len(files)} files are as the manifest says"
    idle = sorted(bundle.absent())
    return f"{there}; missing: {', '.join(sorted(missing))}, without which {', '.join(idle)} cannot run"


def _what_runs(option: Option) -> str:
    if option.skip:
        return f"nothing, for {option.skip} steps"
    return f"{option.graph} on {option.view} ({option.precision})"


def _costs(costs: CostTable) -> Table:
    title = f"{costs.device}, {', '.join(costs.providers)}, {costs.threads} threads"
    table = Table("graph", "view", "p50 ms", "p95 ms", "with resizing", "mJ", title=title)
    for row in costs.graphs:
        energy = "" if row.energy_mj is None else f"{row.energy_mj:.2f}"
        whole = f"{costs.graph_ms(row.graph, row.view):.2f}"
        table.add_row(row.graph, row.view, f"{row.p50_ms:.2f}", f"{row.p95_ms:.2f}", whole, energy)
    return table


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
