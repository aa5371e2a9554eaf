"""The targets of a bundle side by side."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from runtimes.bundle import Bundle
from sdk.benchmark.comparison import compare_targets
from sdk.cli import bench as bench_cli
from tests.runtimes.bundles import build_bundle, manifest_fields

SOURCE = "test://?size=320x240&rate=10&duration=2&live=0"


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The small bundle, with the same files for two targets, and a third that lacks the int8 branch."""
    folder = tmp_path_factory.mktemp("twins")
    graphs = manifest_fields()["graphs"]
    board = tuple(graph.model_copy(update={"target": "board"}) for graph in graphs)
    gpu = tuple(g.model_copy(update={"target": "gpu-board"}) for g in graphs if g.name != "net-int8")
    return build_bundle(folder / "twins.bundle", folder / "scratch", graphs=(*graphs, *board, *gpu))


def test_the_same_files_agree_in_everything_but_time(twins: Bundle) -> None:
    own, other = compare_targets(twins.folder, source=SOURCE, runs=3)
    assert (own.target, other.target) == ("cpu", "board")
    assert other.same_choices == other.same_labels == 1.0 and other.score_difference == 0.0
    assert own.file_mb == other.file_mb > 0
    assert own.graph_ms.keys() == other.graph_ms.keys() == {
        "policy on rgb84", "net-int8 on rgb84", "net-int8 on rgb112", "net-int8 on rgb224",
    }  # fmt: skip
    assert min(*own.graph_ms.values(), own.step_ms, own.opened_ms) > 0


def test_only_targets_that_have_all_graphs_of_the_variant(twins: Bundle) -> None:
    reports = compare_targets(twins.folder, source=SOURCE, runs=1, variant="fp32")
    assert [report.target for report in reports] == ["cpu", "board", "gpu-board"]


def test_the_command_shows_both_and_writes_nothing(
    twins: Bundle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["adaptive-bench", str(twins.folder), "--compare", "--device", "cpu", "--source", SOURCE]
    monkeypatch.setattr(sys, "argv", [*command, "--runs", "1", "--json"])
    with pytest.raises(SystemExit) as ended:
        bench_cli.main()
    assert not ended.value.code
    reports = json.loads(capsys.readouterr().out)
    assert [report["target"] for report in reports] == ["cpu", "board"]
    assert not Path(f"{twins.folder}.cost.json").exists()
