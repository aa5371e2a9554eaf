"""A data set with known answers: real encoded clips whose classes need resolution, time or sound.

* coarse classes: a large shape, recognizable at 84 px;
* fine classes: a disc of one mean gray, filled with coarse noise and a texture of 2.5 px period whose
  direction is the class: resizing to 112 px and below leaves a tenth of it under the noise, so that small
  networks tell only from larger views;
* audible classes: background only, and the sound is the class;
* of the visible classes half sound as well, a tone while the object is seen, and half are silent.

Of every visible clip about half is empty background, in which nothing is worth computing.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from compiler.data.publishing import published
from compiler.data.synthetic.encoding import write_clip
from compiler.data.synthetic.scenes import RATE_HZ, draw_frames, draw_timeline
from compiler.data.synthetic.sounds import SAMPLE_RATE_HZ, TONES_HZ, make_sound
from runtimes.cache import cache_folder

COARSE_CLASSES = ("disc", "square", "cross", "triangle")
FINE_CLASSES = ("horizontal", "vertical", "rising", "falling")
VISIBLE_CLASSES = COARSE_CLASSES + FINE_CLASSES
AUDIBLE_CLASSES = ("chirp", "clicks")
CLASSES = VISIBLE_CLASSES + AUDIBLE_CLASSES
SILENT_CLASSES = tuple(label for label in VISIBLE_CLASSES if label not in TONES_HZ)
"""Visible classes whose sound is noise alone: only pictures tell them, as only sound tells the audible."""

_FORMAT = 3
_MARKER = "synthetic.json"


@dataclass(frozen=True, slots=True)
class Recipe:
    """What determines every byte of the data set."""

    seed: int = 0
    train_clips: int = 40
    val_clips: int = 16
    classes: tuple[str, ...] = CLASSES
    format: int = _FORMAT


def default_root() -> Path:
    """Where synthetic data sets are kept: ``synthetic`` in the cache folder."""
    return cache_folder("synthetic")


def make_clips(
    root: str | os.PathLike[str] | None = None,
    seed: int = 0,
    train_clips: int = 40,
    val_clips: int = 16,
    classes: Sequence[str] = CLASSES,
) -> Path:
    """A folder with ``train/<class>/`` and ``val/<class>/`` of so many clips each, below ``root``.

    The clips are H.264 and AAC in mp4: 320x240 px, 8 frames per second, 4 s, 24 kHz mono. One seed gives
    one data set; a complete one that is there already is left alone. ``root`` None: ``default_root()``.

    Raises: ValueError for an unknown class; DataError if the disk is full.
    """
    unknown = sorted(set(classes) - set(CLASSES))
    if unknown:
        raise ValueError(f"unknown synthetic classes {unknown}; there are {CLASSES}")
    recipe = Recipe(seed, train_clips, val_clips, tuple(classes))
    folder = Path(root or default_root()) / _name(recipe)
    if not (folder / _MARKER).is_file():
        with published(folder, _MARKER) as draft:
            _make_all(draft, recipe)
            (draft / _MARKER).write_text(json.dumps(asdict(recipe)), "utf-8")
    return folder


def _name(recipe: Recipe) -> str:
    digest = hashlib.sha256(json.dumps(asdict(recipe), sort_keys=True).encode())
    return f"seed{recipe.seed}-{digest.hexdigest()[:12]}"


def _make_all(folder: Path, recipe: Recipe) -> None:
    """Every clip, several at once: drawing and encoding mostly run without Python's lock."""
    clips = list(_planned(folder, recipe))
    for path, _, _ in clips:
        path.parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(lambda clip: _make_clip(*clip), clips):
            pass


def _planned(folder: Path, recipe: Recipe) -> Iterator[tuple[Path, str, np.random.Generator]]:
    """Path, label and random numbers of every clip; a clip's numbers depend on seed and name alone."""
    for split, count in (("train", recipe.train_clips), ("val", recipe.val_clips)):
        for label in recipe.classes:
            for number in range(count):
                seeds = [recipe.seed, ("train", "val").index(split), CLASSES.index(label), number]
                yield folder / split / label / f"{number:03d}.mp4", label, np.random.default_rng(seeds)


def _make_clip(path: Path, label: str, rng: np.random.Generator) -> None:
    timeline = draw_timeline(rng, empty=label in AUDIBLE_CLASSES)
    sound = make_sound(rng, label, timeline.visible, RATE_HZ)
    write_clip(path, draw_frames(rng, label, timeline), RATE_HZ, sound, SAMPLE_RATE_HZ)
