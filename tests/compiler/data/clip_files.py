"""Data sets of empty or real files for the tests."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.sdk.media.videos import write_video


def touch(root: Path, names: Iterable[str]) -> Path:
    """Empty files below ``root``: enough wherever nothing is decoded."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def write_listing(root: Path, *lines: str) -> Path:
    """A ``clips.csv`` of these lines, and the files that it names in its first column."""
    touch(root, [line.split(",")[0] for line in lines[1:]])
    listing = root / "clips.csv"
    listing.write_text("\n".join(lines) + "\n", "utf-8")
    return listing


def write_data_set(root: Path, per_class: int = 3, **video: int) -> Path:
    """Real videos of the classes ``a`` and ``b``, in ``train/`` and ``val/``."""
    for split in ("train", "val"):
        for label in ("a", "b"):
            (root / split / label).mkdir(parents=True)
            for number in range(per_class):
                write_video(root / split / label / f"{number}.mp4", **video)
    return root
