"""Data sets of labeled clips: what they are, and the checks that every one must pass."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from compiler.data.listing import Listed, list_csv, list_folders
from compiler.data.splitting import val_groups
from compiler.errors import DataError

Split = Literal["train", "val"]

_LISTINGS = ("clips.csv", "images.csv")
_REJECTED_LIMIT = 0.10
_NAMED_AT_MOST = 5


@dataclass(frozen=True, slots=True)
class Clip:
    """One labeled clip. ``group``: clips that the split must not part, e.g. those of one person."""

    path: Path
    label: str
    group: str
    split: Split


class Rejected(NamedTuple):
    """A clip that cannot be used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class ClipSet:
    """A data set in which every label has clips of both splits.

    ``rejected``: listed, but not there. ``test_clips``: so many are listed for testing, and left alone here.
    ``listing``: the csv that lists them; None where the folders below ``root`` do.
    """

    root: Path
    clips: tuple[Clip, ...]
    rejected: tuple[Rejected, ...] = ()
    test_clips: int = 0
    listing: Path | None = None

    @property
    def origin(self) -> Path:
        """What says which clips there are, and is to be fixed where it is wrong: the csv, or the folder."""
        return self.root if self.listing is None else self.listing

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, sorted by name: the order of a model's scores."""
        return tuple(sorted({clip.label for clip in self.clips}))

    def split(self, name: Split) -> tuple[Clip, ...]:
        """The clips of one split."""
        return tuple(clip for clip in self.clips if clip.split == name)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over names, sizes, labels and splits: which data a model saw, wherever it lay."""
        digest = hashlib.sha256()
        for clip in sorted(self.clips, key=lambda clip: clip.path):
            name = Path(os.path.relpath(clip.path, self.root)).as_posix()
            fields = (name, str(clip.path.stat().st_size), clip.label, clip.split)
            digest.update("\0".join(fields).encode() + b"\n")
        return digest.hexdigest()


def find_clips(path: str | os.PathLike[str], *, classes: Collection[str] | None = None) -> ClipSet:
    """The data set at ``path``.

    ``path`` is a csv with the columns ``path,label[,group][,split]``, paths relative to it; a folder that
    holds such a ``clips.csv`` or ``images.csv``; or a folder with one sub-folder per class, or with such
    folders in ``train/``, ``val/`` (or ``valid/``) and ``test/``. An image is a clip of one frame. Where no
    split is given, about a fifth of every class goes to validation, groups kept whole, chosen by name alone.
    Test clips are left alone. ``classes`` keeps only these labels.

    Raises: DataError for a listing that is malformed, empty, of one class only, with a class that lacks
    training or validation clips, or of which more than a tenth is missing.
    """
    root = Path(path).resolve()
    listing = _listing(root)
    listed = list_folders(root) if listing is None else list_csv(listing)
    if classes is not None:
        listed = _only(listed, classes, listing or root)
    tested = sum(row.split == "test" for row in listed)
    listed = _for_training(listed)
    there = [row for row in listed if row.path.is_file()]
    rejected = tuple(Rejected(row.path, "no such file") for row in listed if not row.path.is_file())
    folder = root if root.is_dir() else root.parent
    clips = ClipSet(folder, tuple(_split(there)), rejected, tested, listing)
    require_usable(clips, {row.label for row in listed})
    return clips


EVALUATED_SPLITS = ("test", "val", "train", "all")
"""What may be evaluated on: the clips of a stated split, or all of them."""


def find_evaluated_clips(
    path: str | os.PathLike[str],
    labels: Collection[str],
    split: str | None = None,
    *,
    known_only: bool = False,
) -> ClipSet:
    """The clips of a data set to evaluate a model of ``labels`` on, all as validation clips.

    ``path`` as for ``find_clips``. ``split``: those of a split that the listing states; None: its test clips,
    else its validation clips, else all. ``known_only``: leave out classes that the model does not know.

    Raises: DataError for a listing that is malformed or has no such clips, and for classes that the model
    does not know, if they are not left out.
    """
    root = Path(path).resolve()
    listing = _listing(root)
    listed = list_folders(root) if listing is None else list_csv(listing)
    if known_only:
        listed = [row for row in listed if row.label in labels]
    stated = {row.split for row in listed}
    wanted = split or next((name for name in ("test", "val") if name in stated), "all")
    rows = [row for row in listed if wanted in ("all", row.split)]
    if not rows:
        splits = ", ".join(sorted(name for name in stated if name)) or "none"
        reason = f"states no {wanted} clips (splits: {splits})"
        raise DataError(listing or root, reason, "give --split all, or one of these")
    unknown = sorted({row.label for row in rows} - set(labels))
    if unknown:
        reason = f"has the class {', '.join(unknown[:_NAMED_AT_MOST])}, which the bundle does not know"
        fix = f"name its classes as the bundle does: {', '.join(sorted(labels))}"
        raise DataError(listing or root, reason, fix)
    there = tuple(Clip(row.path, row.label, row.group, "val") for row in rows if row.path.is_file())
    rejected = tuple(Rejected(row.path, "no such file") for row in rows if not row.path.is_file())
    clips = ClipSet(root if root.is_dir() else root.parent, there, rejected, listing=listing)
    require_readable(clips)
    return clips


def require_readable(clips: ClipSet, labels: Collection[str] = ()) -> None:
    """Raises: DataError if there are no clips, or more than a tenth was rejected."""
    total = len(clips.clips) + len(clips.rejected)
    if not total:
        raise DataError(
            clips.origin,
            "holds no clips",
            "give one sub-folder of videos or images per class, or a clips.csv",
        )
    if len(clips.rejected) > _REJECTED_LIMIT * total:
        raise DataError(
            clips.origin,
            f"{len(clips.rejected)} of {total} clips cannot be used: {_named(clips.rejected)}",
            "fix or remove them; up to a tenth is left out without complaint",
        )


def require_usable(clips: ClipSet, labels: Collection[str]) -> None:
    """Raises: DataError unless ``clips`` can train a model of ``labels``, rejected clips considered."""
    require_readable(clips)
    if len(labels) < 2:
        raise DataError(clips.origin, f"has the one class {', '.join(labels)}", "give clips of two or more")
    for label in sorted(labels):
        _require_both_splits(clips, label)


def _require_both_splits(clips: ClipSet, label: str) -> None:
    splits = {clip.split for clip in clips.clips if clip.label == label}
    for split in ("train", "val"):
        if split not in splits:
            lost = f" ({len(clips.rejected)} were rejected)" if clips.rejected else ""
            raise DataError(
                clips.origin,
                f"class {label} has no usable {split} clips{lost}",
                f"add {label} clips for {split}, of another group if groups are given",
            )


def _listing(root: Path) -> Path | None:
    """The csv that lists the clips at ``root``; None for folders. Raises: DataError if nothing is there."""
    if not root.exists():
        raise DataError(root, "no such file or folder", "check the path")
    if root.is_file():
        return root
    return next((root / name for name in _LISTINGS if (root / name).is_file()), None)


def _only(listed: Sequence[Listed], classes: Collection[str], origin: Path) -> list[Listed]:
    unknown = sorted(set(classes) - {row.label for row in listed})
    if unknown:
        raise DataError(origin, f"has no class {', '.join(unknown)}", "check the names in classes")
    return [row for row in listed if row.label in classes]


def _split(listed: Sequence[Listed]) -> list[Clip]:
    """Every clip with its split: the one it states, or one chosen for it when the listing states none."""
    chosen = val_groups([(row.group, row.label) for row in listed if row.split is None])

    def split(row: Listed) -> Split:
        stated = row.split == "val" if row.split else row.group in chosen
        return "val" if stated else "train"

    return [Clip(row.path, row.label, row.group, split(row)) for row in listed]


def _for_training(listed: Sequence[Listed]) -> list[Listed]:
    """All but the test clips; where these are all that is set apart, validation clips are chosen."""
    rest = [row for row in listed if row.split != "test"]
    if len(rest) < len(listed) and not any(row.split == "val" for row in rest):
        return [replace(row, split=None) for row in rest]
    return rest


def _named(rejected: Sequence[Rejected]) -> str:
    named = ", ".join(f"{path.name} ({reason})" for path, reason in rejected[:_NAMED_AT_MOST])
    more = len(rejected) - _NAMED_AT_MOST
    return f"{named} and {more} more" if more > 0 else named
