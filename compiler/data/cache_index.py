"""What a clip cache says of itself, and the key under which it is found again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, Self

import av
from pydantic import BaseModel, ConfigDict

from compiler.data.clips import Clip, ClipSet
from runtimes.spec import Steps, View

_FORMAT = 3


class CachedClip(BaseModel):
    """One clip: where its steps start in the pixel files, and when each of them is.

    ``absent``: by view, the numbers of the steps that lack what it is made from, e.g. sound.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    label: str
    group: str
    split: Literal["train", "val"]
    start: int
    times: tuple[float, ...]
    absent: dict[str, tuple[int, ...]] = {}

    @classmethod
    def of(
        cls, clip: Clip, start: int, times: tuple[float, ...], absent: Mapping[str, tuple[int, ...]]
    ) -> Self:
        """The entry of ``clip``."""
        return cls(
            path=str(clip.path),
            label=clip.label,
            group=clip.group,
            split=clip.split,
            start=start,
            times=times,
            absent={view: steps for view, steps in absent.items() if steps},
        )

    @property
    def steps(self) -> int:
        """How many steps the clip has."""
        return len(self.times)

    def clip(self) -> Clip:
        """The clip itself."""
        return Clip(Path(self.path), self.label, self.group, self.split)


class CacheIndex(BaseModel):
    """The index file of a cache."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    labels: tuple[str, ...]
    views: tuple[View, ...]
    rate_hz: float
    clip_steps: int
    segment_s: float
    fingerprint: str
    cut_clips: int
    clips: tuple[CachedClip, ...]
    rejected: tuple[tuple[str, str], ...]

    @property
    def total_steps(self) -> int:
        """Steps of all clips together: the length of every pixel file."""
        return sum(clip.steps for clip in self.clips)


def cache_key(clips: ClipSet, views: Sequence[View], steps: Steps) -> str:
    """A name for the cache of these clips and views: it changes with all that could change a pixel."""
    described = {
        "format": _FORMAT,
        "av": [av.__version__, {name: list(version) for name, version in av.library_versions.items()}],
        "views": [view.model_dump() for view in views],
        "computed_by": _libraries(views),
        "steps": steps.model_dump(),
        "clips": [[*_file_state(clip.path), clip.label, clip.group, clip.split] for clip in clips.clips],
        "rejected": [[str(path), reason] for path, reason in clips.rejected],
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:24]


def _libraries(views: Sequence[View]) -> list[str]:
    """Versions of what computes more than FFmpeg does: a new one may round otherwise."""
    modalities = {view.modality for view in views}
    libraries = {"audio": "numpy", "flow": "opencv-python-headless"}
    return [_version(name) for modality, name in libraries.items() if modality in modalities]


def _version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return package


def _file_state(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return str(path), status.st_size, status.st_mtime_ns
