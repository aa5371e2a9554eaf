"""Labeled streams: untrimmed videos, the events in them, and the checks that every set must pass."""

from __future__ import annotations

import csv
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from compiler.data.clips import EVALUATED_SPLITS, Rejected
from compiler.data.streams.activitynet import list_activitynet
from compiler.data.streams.listed_events import ListedEvent, list_stream_csv
from compiler.errors import DataError

_REJECTED_LIMIT = 0.10
_NAMED_AT_MOST = 5


@dataclass(frozen=True, slots=True)
class Event:
    """A stretch of a stream with a label, from ``start_s`` up to ``end_s`` of stream time."""

    start_s: float
    end_s: float
    label: str


@dataclass(frozen=True, slots=True)
class LabeledStream:
    """One video and its events by their start; what lies between them is background.

    ``group``: streams that belong together, e.g. those of one camera.
    """

    path: Path
    events: tuple[Event, ...]
    group: str


@dataclass(frozen=True, slots=True)
class StreamSet:
    """Streams to evaluate on. ``rejected``: listed, but not there; ``overlaps``: events cut short."""

    origin: Path
    streams: tuple[LabeledStream, ...]
    rejected: tuple[Rejected, ...] = ()
    overlaps: int = 0


def is_stream_listing(path: str | os.PathLike[str]) -> bool:
    """Whether ``path`` lists events with times: a csv with ``start_s``, or ActivityNet's JSON."""
    place = Path(path)
    if place.suffix.lower() == ".json" and place.is_file():
        return True
    if place.suffix.lower() != ".csv" or not place.is_file():
        return False
    try:
        with place.open(newline="", encoding="utf-8-sig", errors="replace") as file:
            return "start_s" in next(csv.reader(file), [])
    except (OSError, csv.Error):
        return False  # what reads it as clips says what is wrong


def find_streams(
    path: str | os.PathLike[str], labels: Collection[str], split: str | None = None
) -> StreamSet:
    """The streams of a listing to evaluate a model of ``labels`` on.

    ``split``: those of one; None: the test streams if any has a label, else so the validation streams, else
    all. Where two events of a stream overlap the later one begins when the earlier ends, and is left out if
    nothing is left of it.

    Raises: DataError for a listing that is malformed or has no such streams, for classes that the model does
    not know, or if more than a tenth of its videos is missing.
    """
    listing = Path(path).resolve()
    listed = (list_activitynet if listing.suffix.lower() == ".json" else list_stream_csv)(listing)
    stated = {row.split for row in listed}
    labeled = {row.split for row in listed if row.label is not None}  # test streams often have no labels
    wanted = split or next((name for name in ("test", "val") if name in labeled), "all")
    assert wanted in EVALUATED_SPLITS, "checked where it was given"
    rows = [row for row in listed if wanted in ("all", row.split)]
    if not rows:
        splits = ", ".join(sorted(name for name in stated if name)) or "none"
        raise DataError(
            listing, f"states no {wanted} streams (splits: {splits})", "give --split all, or one of these"
        )
    unknown = sorted({row.label for row in rows if row.label} - set(labels))
    if unknown:
        reason = f"has the class {', '.join(unknown[:_NAMED_AT_MOST])}, which the bundle does not know"
        raise DataError(listing, reason, f"name its classes as the bundle does: {', '.join(sorted(labels))}")
    return _gathered(listing, rows)


def _gathered(listing: Path, rows: Sequence[ListedEvent]) -> StreamSet:
    by_path: dict[Path, list[ListedEvent]] = {}
    for row in rows:
        by_path.setdefault(row.path, []).append(row)
    rejected = tuple(Rejected(path, "no such file") for path in by_path if not path.is_file())
    if len(rejected) > _REJECTED_LIMIT * len(by_path):
        named = ", ".join(one.path.name for one in rejected[:_NAMED_AT_MOST])
        reason = f"{len(rejected)} of {len(by_path)} videos are not there: {named}"
        raise DataError(listing, reason, "add them, or take them off the list; up to a tenth is left out")
    streams, overlaps = [], 0
    for path, own in by_path.items():
        if path.is_file():
            events, cut = _without_overlaps(own)
            overlaps += cut
            streams.append(LabeledStream(path, events, own[0].group))
    return StreamSet(listing, tuple(streams), rejected, overlaps)


def _without_overlaps(rows: Sequence[ListedEvent]) -> tuple[tuple[Event, ...], int]:
    """Events by their start, none beginning before the one before it ends, and how many were cut."""
    ranked = sorted(
        (Event(row.start_s, row.end_s, row.label) for row in rows if row.label is not None),
        key=lambda event: (event.start_s, event.end_s),
    )
    found: list[Event] = []
    cut = 0
    for event in ranked:
        begins = max(event.start_s, found[-1].end_s if found else 0.0)
        cut += begins > event.start_s
        if begins < event.end_s:
            found.append(replace(event, start_s=begins))
    return tuple(found), cut
