"""Reads what clips a data set has: from a csv, or from folders named after the classes."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from compiler.errors import DataError

VIDEO_SUFFIXES = frozenset(
    {".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts"}
    | {".ogv", ".ts", ".webm", ".wmv", ".3gp"}
)
IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".webp"})
"""A photograph is a clip of one frame."""

ListedSplit = Literal["train", "val", "test"]

_SPLITS: dict[str, ListedSplit] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What splits are called, in csv files and as folders."""


@dataclass(frozen=True, slots=True)
class Listed:
    """One row of a listing; the file may be missing, ``split`` is None where the listing has none."""

    path: Path
    label: str
    group: str
    split: ListedSplit | None


def list_csv(listing: Path) -> list[Listed]:
    """The rows of a csv with the columns ``path,label[,group][,split]``; paths are relative to it.

    Raises: DataError for missing or doubled columns, a row of more values than columns, an unknown split, an
    empty field or a path listed twice.
    """
    rows = csv_rows(listing, ("path", "label"))
    listed = [_row(listing, number, row) for number, row in rows]
    _require_unique(listing, listed)
    return listed


def csv_rows(listing: Path, required: Sequence[str]) -> list[tuple[int, dict[str, str | None]]]:
    """The rows of a csv by column, each with its line; it must have the ``required`` columns.

    Raises: DataError for missing or doubled columns, or a row of more values than columns.
    """
    try:
        with listing.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = tuple(reader.fieldnames or ())
            rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(listing, f"is not a csv ({error})", "write it as UTF-8 text with commas") from None
    except OSError as error:
        raise DataError(listing, f"cannot be read: {error.strerror}", "check the path") from None
    missing = [name for name in required if name not in columns]
    if missing:
        raise DataError(
            listing,
            f"lacks the column{'s' if len(missing) > 1 else ''} {' and '.join(missing)}",
            f"its first line must name {','.join(required)} and may name group,split",
        )
    doubled = sorted({name for name in columns if columns.count(name) > 1})
    if doubled:
        raise DataError(listing, f"has the column {doubled[0]!r} twice", "name every column once")
    for number, row in rows:
        if None in row:  # where the reader puts what no column is for
            place = f"{listing}, line {number}"
            raise DataError(
                place, "has more values than there are columns", "quote values with commas in them"
            )
    return rows


def split_named(name: object) -> ListedSplit | None:
    """The split that a listing calls so; None for no split's name."""
    return _SPLITS.get(name.strip().lower()) if isinstance(name, str) else None


def _row(listing: Path, number: int, row: dict[str, str | None]) -> Listed:
    place = f"{listing}, line {number}"
    name, label = row["path"] or "", row["label"] or ""
    if not name or not label:
        raise DataError(place, "has no path or no label", "fill it in or remove the line")
    path = (listing.parent / name).resolve()
    if "split" not in row:
        return Listed(path, label, row.get("group") or str(name), None)
    split = split_named(row["split"])
    if split is None:
        raise DataError(place, f"the split is {row['split']!r}", "write train, val or test")
    return Listed(path, label, row.get("group") or str(name), split)


def _require_unique(listing: Path, listed: list[Listed]) -> None:
    seen: set[Path] = set()
    for row in listed:
        if row.path in seen:
            raise DataError(listing, f"lists {row.path.name} twice", "list every clip once")
        seen.add(row.path)


def list_folders(root: Path) -> list[Listed]:
    """The videos in ``root/<class>/``, or in ``root/train/<class>/``, ``root/val/`` and ``root/test/``.

    ``valid``, ``validation`` and the like will do. Raises: DataError if ``train`` is alone, or missing.
    """
    splits = {name: root / name for name in _SPLITS if (root / name).is_dir()}
    kinds = {_SPLITS[name] for name in splits}
    if kinds <= {"test"}:  # alone, it is a class that is called so
        return _class_folders(root, root, None)
    if "train" not in kinds or len(kinds) == 1:
        lacking = "val" if kinds == {"train"} else "train"
        there = ", ".join(f"{name}/" for name in splits)
        raise DataError(root, f"has {there} but no {lacking}/", f"add {lacking}/, or move the classes up")
    return [row for name, folder in splits.items() for row in _class_folders(root, folder, _SPLITS[name])]


def _class_folders(root: Path, folder: Path, split: ListedSplit | None) -> list[Listed]:
    return [
        Listed(path, label.name, path.relative_to(root).as_posix(), split)
        for label in sorted(folder.iterdir())
        if label.is_dir() and not label.name.startswith(".")
        for path in sorted(label.rglob("*"))
        if path.suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES
    ]
