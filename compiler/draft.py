"""A bundle of networks that is thrown away again: to measure them, or to see what they answer."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compiler.bundle_plan import BundlePlan
from compiler.export.split import split
from compiler.manifest import manifest_fields
from compiler.targets import Target
from compiler.training.training import Training
from runtimes.bundle import Bundle, write_bundle


@contextmanager
def draft_bundle(training: Training, preset: str, target: Target, plan: BundlePlan) -> Iterator[Bundle]:
    """The bundle of a plan for a target, as that runs here, while it is used."""
    with tempfile.TemporaryDirectory(prefix="adaptive-compile-") as scratch:
        graphs = Path(scratch) / "graphs"
        graphs.mkdir()
        parts = split(plan, (target.run_here,), graphs)
        fields = manifest_fields(training, preset, target.name, parts)
        yield write_bundle(Path(scratch) / "draft.bundle", graphs, fields)
