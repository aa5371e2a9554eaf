"""What the report's tables say of memory and of the papers' costs."""

from __future__ import annotations

from pathlib import Path

from compiler.measuring.profile import Profile
from compiler.quantization.pareto import CandidateCost
from compiler.report.report import _graph_table, _precision_part
from runtimes.bundle import Bundle
from runtimes.spec import CostTable
from tests.runtimes.bundles import build_bundle
from tests.runtimes.stored_bundles import build_stored_bundle


def graph_table(bundle: Bundle) -> str:
    table = bundle.manifest.cost_tables[0]
    rows = [row.model_copy(update={"memory_mb": 60.6}).model_dump() for row in table.graphs]
    measured = CostTable.model_validate(table.model_dump() | {"graphs": rows})
    return _graph_table(bundle.manifest, Profile(measured, (), (), (), {}))


def test_graphs_of_one_store_share_their_memory(tmp_path: Path) -> None:
    stored = build_stored_bundle(tmp_path / "stored.bundle", tmp_path / "stored")
    widths = [graph for graph in stored.manifest.graphs if graph.store is not None]
    assert graph_table(stored).count("<td>shared</td>") == len(widths) == 3
    apart = graph_table(build_bundle(tmp_path / "tiny.bundle", tmp_path / "tiny"))
    assert "<td>60.6</td>" in apart and "shared" not in apart


def test_the_papers_law_is_called_what_it_is() -> None:
    int4 = CandidateCost("rgb224", "int4", 4, 0.9, 100, 1.0, 1.0, 8_000_000_000)
    part = "".join(_precision_part([int4], ()))
    assert "<th>int8-equivalent GMACs</th>" in part and "<td>2.000</td>" in part
    assert "min(bits, 8)² / 64" in part and "10^9" not in part
