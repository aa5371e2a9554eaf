"""Reads events with their times from a csv."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from compiler.data.listing import ListedSplit, csv_rows, split_named
from compiler.errors import DataError

_COLUMNS = ("path", "start_s", "end_s", "label")


@dataclass(frozen=True, slots=True)
class ListedEvent:
    """One event of a video; ``label`` None: the video has no event at all. ``split`` None: none is stated."""

    path: Path
    start_s: float
    end_s: float
    label: str | None
    group: str
    split: ListedSplit | None


def list_stream_csv(listing: Path) -> list[ListedEvent]:
    """The rows of a csv with the columns ``path,start_s,end_s,label[,group][,split]``.

    Paths are relative to it. A video in which nothing happens has one row, with a path alone.

    Raises: DataError for missing or doubled columns, a row of more values than columns, times that are no
    stretch, an unknown split, or a video in two splits.
    """
    rows = csv_rows(listing, _COLUMNS)
    listed = [_row(listing, number, row) for number, row in rows]
    if not listed:
        raise DataError(listing, "lists no streams", "give one row per event")
    _require_one_split_each(listing, listed)
    return listed


def _row(listing: Path, number: int, row: dict[str, str | None]) -> ListedEvent:
    place = f"{listing}, line {number}"
    name = row["path"] or ""
    if not name:
        raise DataError(place, "has no path", "fill it in or remove the line")
    split = None
    if "split" in row:
        split = split_named(row["split"])
        if split is None:
            raise DataError(place, f"the split is {row['split']!r}", "write train, val or test")
    path, group = (listing.parent / name).resolve(), row.get("group") or name
    given = [row["start_s"], row["end_s"], row["label"]]
    if not any(given):
        return ListedEvent(path, 0.0, 0.0, None, group, split)
    if not row["label"]:
        raise DataError(place, "has times and no label", "name the event, or leave its times empty too")
    start_s, end_s = (_seconds(place, name, row[name]) for name in ("start_s", "end_s"))
    if start_s >= end_s:
        reason = f"its event begins at {start_s:g} s and ends at {end_s:g} s"
        raise DataError(place, reason, "give the end after the start, in seconds")
    return ListedEvent(path, start_s, end_s, row["label"], group, split)


def _seconds(place: str, name: str, text: str | None) -> float:
    try:
        seconds = float(text or "")
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise DataError(place, f"{name} is {text!r}", "give seconds from the video's beginning, such as 12.5")
    return seconds


def _require_one_split_each(listing: Path, listed: list[ListedEvent]) -> None:
    splits: dict[Path, ListedSplit | None] = {}
    for row in listed:
        if splits.setdefault(row.path, row.split) != row.split:
            reason = f"puts {row.path.name} in two splits"
            raise DataError(listing, reason, "give all events of a video the same split")
