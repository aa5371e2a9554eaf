"""Exporters go by a module's type: one that none is registered for is an error that names it."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from compiler.bundle_plan import Network
from compiler.errors import CompileError
from compiler.export.writers import write_graphs
from compiler.targets import TARGETS
from tests.models.small_arnet import small_model


@pytest.mark.parametrize("target", ["cpu", "litert"])
def test_a_module_of_unknown_type(target: str, tmp_path: Path) -> None:
    view = small_model().views["rgb64"]
    network = Network("arnet-odd-fp32", "odd", nn.Linear(3, 2), "fp32", (view,))
    with pytest.raises(CompileError, match=r"arnet-odd-fp32: no .* exporter for Linear"):
        write_graphs([network], TARGETS[target], tmp_path, {})
    assert not any(tmp_path.iterdir())
