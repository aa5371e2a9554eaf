"""Results as they are kept: medians with their spread, and what they were measured on and with."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtimes.device import device_name

_VERSIONED = ("adaptive-video", "av", "numpy", "onnxruntime", "torch")
_RESULTS = Path(__file__).parent / "results"


def spread(values: Sequence[float] | NDArray[np.float64], digits: int = 3) -> dict[str, float]:
    """Median and quartiles, and of how many values."""
    low, median, high = np.percentile(values, [25, 50, 75])
    rounded = {"median": round(median, digits), "q25": round(low, digits), "q75": round(high, digits)}
    return rounded | {"n": len(values)}


def shown(value: dict[str, float]) -> str:
    """A spread in a table's cell."""
    return f"{value['median']:.3g} ({value['q25']:.3g}-{value['q75']:.3g})"


def write(name: str, measured: dict[str, Any]) -> Path:
    """Write ``results/<name>.json`` with the circumstances, and return its path."""
    module = sys.modules["__main__"].__spec__
    command = " ".join(["python -m", module.name if module else name, *sys.argv[1:]])
    circumstances = {
        "command": command,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device_name(),
        "load_average_1min": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": {package: version(package) for package in _VERSIONED},
    }
    path = _RESULTS / f"{name}.json"
    path.write_text(json.dumps({"measured_on": circumstances, **measured}, indent=1) + "\n")
    return path
