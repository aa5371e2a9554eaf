"""Keeping what was measured beside the bundle, unless what is kept there was measured better."""

from __future__ import annotations

from pathlib import Path

from runtimes.bundle import Bundle
from runtimes.errors import BundleError
from runtimes.spec import CostTable


def open_whole(path: str | Path) -> Bundle:
    """The bundle at ``path``. Raises: BundleError if it cannot be opened, or lacks a low plane."""
    bundle = Bundle.open(path, partial=True)
    if bundle.missing:
        raise BundleError(bundle.location / min(bundle.missing), "is missing", "fetch it, and measure again")
    return bundle


def better_kept(bundle: Bundle, table: CostTable) -> CostTable | None:
    """The table of the same setup that is kept beside ``bundle``, if it is of more runs than ``table``."""
    kept = (old for old in bundle.device_costs() if old.setup == table.setup)
    return next((old for old in kept if (old.runs or 0) > (table.runs or 0)), None)
