"""A modality that the clips lack is told before anything is trained."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from compiler.data.loading import note_absent
from compiler.errors import DataError


class Notes:
    """A console that keeps what it is told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def stage(self, name: str) -> None:
        pass

    def note(self, text: str) -> None:
        self.notes.append(text)

    def progress(self, name: str) -> AbstractContextManager[Any]:
        return nullcontext(lambda done, total: None)


def cache(*muted: float) -> Any:
    """Clips of ten steps, of which the first so many lack their sound."""

    def absent(clip: int, modality: str) -> np.ndarray[Any, Any]:
        return np.arange(10) < (10 * muted[clip] if modality == "audio" else 0)

    views = [SimpleNamespace(modality=modality) for modality in ("rgb", "audio")]
    return SimpleNamespace(clips=list(muted), views=views, absent=absent)


def test_clips_that_all_lack_it_are_refused() -> None:
    fix = "not one of the clips has it; leave audio out of --modalities"
    with pytest.raises(DataError, match=f"modality audio: {fix}"):
        note_absent(cache(1, 1, 1), Notes())


def test_clips_that_lack_some_of_it_are_counted() -> None:
    console = Notes()
    note_absent(cache(1, 0.5, 0), console)
    assert console.notes == ["2 clips lack audio, 1 of them all along"]


def test_clips_that_lack_nothing_are_not_spoken_of() -> None:
    console = Notes()
    note_absent(cache(0, 0), console)
    assert console.notes == []
