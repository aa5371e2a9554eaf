"""The clips that benchmarks judge bundles by."""

from __future__ import annotations

import random
from pathlib import Path

from compiler.data.clips import Clip, find_clips
from compiler.data.synthetic.built_in import make_clips
from runtimes.bundle import Bundle


def validation_clips(data: Path | None, bundle: Bundle, count: int) -> list[Clip]:
    """Those of the bundle's labels, shuffled, as streams are not sorted by class; None: the built-in ones."""
    labels = set(bundle.manifest.labels)
    found = find_clips(data or make_clips(seed=0)).clips
    clips = [clip for clip in found if clip.split == "val" and clip.label in labels]
    random.Random(0).shuffle(clips)
    return clips[:count]
