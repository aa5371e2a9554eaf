"""Data sets: found, split, checked, and decoded once through the SDK's own code.

* ``find_clips(path, *, classes=None) -> ClipSet``: folders of classes or a csv.
* ``choose_rate_hz(clips, clip_steps) -> float``: the step rate that fits the clips.
* ``ClipCache.build(clips, views, rate_hz, clip_steps, root, progress, segment_s=0) -> ClipCache``:
  memory-mapped views of every step, pixels and spectrograms; ``cache.absent(clip, view)``: steps without.
* ``synthetic.make_clips(root, seed=0, ...) -> Path``: a data set with known answers.
"""

from compiler.data.cache import ClipCache
from compiler.data.clips import Clip, ClipSet, Rejected, find_clips
from compiler.data.rate import choose_rate_hz

__all__ = ["Clip", "ClipCache", "ClipSet", "Rejected", "choose_rate_hz", "find_clips"]
