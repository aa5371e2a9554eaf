"""What options cost on the target: measured here, read from the device's own table, or declared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from pydantic import TypeAdapter, ValidationError

from compiler.bundle_plan import BundlePlan
from compiler.errors import CompileError
from compiler.targets import Target
from models.macs import network_macs
from runtimes.spec import CostTable, GraphCost, ViewCost
from runtimes.words import counted


class CostMeasurer(Protocol):
    """Finds out what every graph of a bundle plan costs on the target."""

    def __call__(self, plan: BundlePlan) -> CostTable:
        """The costs of all graphs and views of ``plan``."""
        ...


_TABLES = TypeAdapter(tuple[CostTable, ...])
_DECLARED_GMACS_PER_MS = 0.05
"""What fp32 is taken to reach where nothing is measured; only ratios between options count."""


def read_costs(path: Path, graphs: Sequence[str]) -> CostTable:
    """The first table of a device's cost file (``adaptive-bench`` writes it) that has all of ``graphs``.

    Raises: CompileError if it cannot be read, or lacks one.
    """
    fix = "run adaptive-bench on the device with a bundle of the same model and --keep-all-precisions"
    try:
        tables = _TABLES.validate_json(path.read_bytes())
    except FileNotFoundError:
        raise CompileError(path, "no such file", "check the path given to --costs") from None
    except ValidationError as error:
        mistakes = counted(error.error_count(), "mistake")
        raise CompileError(path, f"is not a cost table ({mistakes})", fix) from None
    for table in tables:
        lacking = set(graphs) - {row.graph for row in table.graphs}
        if not lacking:
            return table
    raise CompileError(path, f"has no table with {', '.join(sorted(lacking))}", fix)


def declared_costs(plan: BundlePlan, target: Target) -> CostTable:
    """Costs by MACs and the target's declared speeds; the device's name says that nothing was measured."""
    graphs: list[GraphCost] = []
    views: dict[str, ViewCost] = {}
    for variant in plan.variants:
        for network in variant.networks:
            view = network.view
            macs = network_macs(network.module, network.views)
            ms = macs / 1e9 / _DECLARED_GMACS_PER_MS / target.speeds[network.precision]
            graphs.append(GraphCost(graph=network.graph, view=view.name, p50_ms=ms, p95_ms=ms))
            views |= {v.name: ViewCost(view=v.name, p50_ms=0.0, p95_ms=0.0) for v in network.views}
    return CostTable(
        device=f"{target.name}, declared and not measured",
        providers=target.providers,
        threads=1,
        graphs=tuple(graphs),
        views=tuple(views.values()),
    )


def kept_costs(
    path: Path,
    graphs: Sequence[str],
    device: str,
    measure: Callable[[], CostTable],
    energy_source: str | None = None,
) -> CostTable:
    """The table at ``path`` if of this ``device`` and with all ``graphs``; else ``measure()``, kept there.

    If ``energy_source`` is given, a table without its energies does not count.

    Kept with the training's results: measured anew every time, options would come and go between compiles.
    Of several processes of one training the first measures, and all go by its table.
    """
    distributed = torch.distributed.is_initialized()
    if not distributed or torch.distributed.get_rank() == 0:
        kept = _read_kept(path)
        if kept is None or not _fits(kept, graphs, device, energy_source):
            draft = path.with_suffix(".draft")
            draft.write_text(measure().model_dump_json(indent=1))
            draft.replace(path)
    if distributed:
        torch.distributed.barrier()
    table = _read_kept(path)
    assert table is not None, "the first process has just written it"
    return table


def _fits(table: CostTable, graphs: Sequence[str], device: str, energy_source: str | None) -> bool:
    metered = energy_source in (None, table.energy_source)
    return metered and table.device == device and set(graphs) <= {row.graph for row in table.graphs}


def _read_kept(path: Path) -> CostTable | None:
    return CostTable.model_validate_json(path.read_bytes()) if path.is_file() else None
