"""Writes the golden decision traces anew: ``python -m tests.golden.write``."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from sdk.recording.golden_trace import trace_decisions
from tests.golden.bundles import SOURCES, build_golden

FOLDER = Path(__file__).parent


def main() -> None:
    """One file for each model."""
    for name, source in SOURCES.items():
        with tempfile.TemporaryDirectory() as folder:
            trace = trace_decisions(build_golden(name, Path(folder)), source)
        (FOLDER / f"{name}.json").write_text(json.dumps(trace, indent=1) + "\n")


if __name__ == "__main__":
    main()
