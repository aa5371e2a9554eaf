"""What three bit-widths of one network take in a bundle, over what its 8-bit form takes alone."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.precisions import WIDTHS, stored_graphs
from benchmarks.record import write

_CASES = [(name, classes) for name in ("resnet50", "resnet18", "mobilenetv2") for classes in (10, 1000)]


def measure(backbone: str, classes: int) -> dict[str, Any]:
    """Bytes of planes and graphs; their sum over that of the planes and the 8-bit graph."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store, models = stored_graphs(backbone, classes, folder)
        planes = {file: (folder / file).stat().st_size for file in (store.high, store.low)}
        graphs = {bits: (folder / f"net-{bits}.onnx").stat().st_size for bits in WIDTHS}
        alone = sum(planes.values()) + graphs[8]
        plain = len(models[8].SerializeToString())
    everything = sum(planes.values()) + sum(graphs.values())
    partial = everything - planes[store.low]
    return {
        "planes_bytes": planes,
        "graphs_bytes": graphs,
        "all_widths_over_8_bits_alone": round(everything / alone, 4),
        "all_widths_over_plain_8_bit_export": round(everything / plain, 4),
        "without_low_plane_over_8_bits_alone": round(partial / alone, 4),
    }


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    measured = {f"{name}, {classes} classes": measure(name, classes) for name, classes in _CASES}
    for case, row in measured.items():
        print(case, *(f"{key} {value}" for key, value in row.items()), sep="\n  ")
    print(write("store_size", measured))


if __name__ == "__main__":
    main()
