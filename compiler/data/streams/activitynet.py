"""Reads events with their times from a JSON file of ActivityNet's layout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compiler.data.listing import VIDEO_SUFFIXES, split_named
from compiler.data.streams.listed_events import ListedEvent
from compiler.errors import DataError

_FOLDERS = (".", "videos")


def list_activitynet(listing: Path) -> list[ListedEvent]:
    """The events of ``{"database": {NAME: {"subset", "annotations": [{"label", "segment": [s, e]}]}}}``.

    A video is a file NAME, or v_NAME, with any ending of a video, beside the file or in ``videos/``; one that
    is not there is listed as NAME.mp4.

    Raises: DataError for what is not of this layout, an unknown subset, or times that are no stretch.
    """
    database = _database(listing)
    files = _files(listing.parent)
    events: list[ListedEvent] = []
    for name, entry in database.items():
        place = f"{listing}, {name}"
        if not isinstance(entry, Mapping):
            raise DataError(place, "is not an object", "give it a subset and annotations")
        split = split_named(entry.get("subset"))
        if split is None:
            fix = "write training, validation or testing"
            raise DataError(place, f"the subset is {entry.get('subset')!r}", fix)
        path = files.get(name) or files.get(f"v_{name}") or listing.parent / f"{name}.mp4"
        annotations = entry.get("annotations") or []
        if not isinstance(annotations, list):
            raise DataError(place, "its annotations are not a list", "list them as ActivityNet does")
        events += [ListedEvent(path, *_event(place, one), name, split) for one in annotations]
        if not annotations:
            events.append(ListedEvent(path, 0.0, 0.0, None, name, split))
    return events


def _database(listing: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(listing.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise DataError(listing, f"cannot be read: {error.strerror}", "check the path") from None
    except (ValueError, RecursionError) as error:  # text, JSON, or a number too long to read
        raise DataError(listing, f"is not JSON ({error})", "give ActivityNet's JSON, or a csv") from None
    database = content.get("database") if isinstance(content, dict) else None
    if not isinstance(database, dict) or not database:
        fix = 'give {"database": {NAME: {"subset": ..., "annotations": [...]}}}, or a csv'
        raise DataError(listing, "has no database of videos", fix)
    return database


def _event(place: str, annotation: Any) -> tuple[float, float, str]:
    fix = 'give {"label": NAME, "segment": [START, END]} in seconds'
    try:
        label, segment = annotation["label"], annotation["segment"]
        start_s, end_s = map(float, segment if isinstance(segment, list) else ())
    except (LookupError, TypeError, ValueError, OverflowError):
        raise DataError(place, f"has the annotation {str(annotation)[:80]}", fix) from None
    if not isinstance(label, str) or not label or not 0 <= start_s < end_s < float("inf"):
        raise DataError(place, f"has the annotation {str(annotation)[:80]}", fix)
    return start_s, end_s, label


def _files(folder: Path) -> dict[str, Path]:
    """The videos there are, by their names without endings."""
    return {
        path.stem: path
        for place in _FOLDERS
        if (folder / place).is_dir()
        for path in sorted((folder / place).iterdir())
        if path.suffix.lower() in VIDEO_SUFFIXES
    }
