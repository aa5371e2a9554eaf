"""Which classes are taken for which: a matrix, as a csv file or a plot."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

_NAMED_AT_MOST = 40
"""Labels that fit beside a plot."""


@dataclass(frozen=True)
class Confusion:
    """``counts`` (classes, classes): clips of each class (rows) by what was answered (columns)."""

    labels: tuple[str, ...]
    counts: NDArray[np.int64]

    @classmethod
    def of(
        cls, targets: NDArray[np.integer], answers: NDArray[np.integer], labels: tuple[str, ...]
    ) -> Confusion:
        """Count ``targets`` and ``answers`` (clips,)."""
        counts = np.zeros((len(labels), len(labels)), np.int64)
        np.add.at(counts, (targets, answers), 1)
        return cls(labels, counts)


def write_confusion(matrix: Confusion, file: Path) -> None:
    """Write a csv: a row per true class, a column per answer."""
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["class", *matrix.labels])
        for label, row in zip(matrix.labels, matrix.counts.tolist(), strict=True):
            writer.writerow([label, *row])


def draw_confusion(matrix: Confusion, file: Path) -> None:
    """Draw the share of each class's clips by answer."""
    side = min(4 + 0.25 * len(matrix.labels), 16)
    figure = Figure(figsize=(side, side), layout="constrained")
    panel = figure.subplots()
    shares = matrix.counts / np.maximum(matrix.counts.sum(axis=1, keepdims=True), 1)
    image = panel.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(image, ax=panel, label="share of the class's clips", shrink=0.8)
    if len(matrix.labels) <= _NAMED_AT_MOST:
        panel.set_xticks(range(len(matrix.labels)), matrix.labels, rotation=90)
        panel.set_yticks(range(len(matrix.labels)), matrix.labels)
    panel.set(xlabel="answer", ylabel="class")
    figure.savefig(file)
