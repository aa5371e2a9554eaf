"""What a consumer wants of a source: how often, and what each step is to bring beside its own picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from runtimes.spec import Steps, View
from sdk.errors import ViewError


@dataclass(frozen=True, slots=True)
class StreamRequirements:
    """``rate_hz`` steps per second of source time, each with the ``segment_s`` seconds that end at it.

    The first is due ``segment_s`` after the first picture, so that its segment is whole.
    ``frames``: into how many evenly spaced pictures the segment is divided, one number for each way.
    ``consecutive``: every picture of the segment is wanted, for differences and flow. ``sound_rate_hz``:
    samples per second of its sound; None: no sound is decoded. With ``segment_s`` 0 a step is its own
    picture, and nothing else is decoded or kept.

    Raises: ValueError for a segment that is not positive where one is needed.
    """

    rate_hz: float
    segment_s: float = 0.0
    frames: tuple[int, ...] = ()
    consecutive: bool = False
    sound_rate_hz: int | None = None

    def __post_init__(self) -> None:
        needed = bool(self.frames) or self.consecutive or self.sound_rate_hz is not None
        if not 0 <= self.segment_s < float("inf") or (needed and not self.segment_s):
            raise ValueError(f"segment_s {self.segment_s}: must be positive")

    @classmethod
    def of(cls, steps: Steps, views: Sequence[View]) -> Self:
        """What ``views`` need of a stream at ``steps``.

        Raises: AdaptiveVideoError for a view of several pictures, of motion or of sound where steps have
        no segment or one too short, and for audio views of different sample rates.
        """
        several = [view for view in views if view.modality != "rgb" or view.frames > 1]
        if several and not steps.segment_s:
            reason = "needs a segment, and the steps have none"
            raise ViewError(f"view {several[0].name}", reason, "give steps a segment_s")
        rates = {view.sample_rate for view in views if view.modality == "audio"}
        if len(rates) > 1:
            raise ViewError("audio views", f"have different rates {sorted(rates)}", "use one rate")
        for view in views:
            if view.modality == "audio" and steps.segment_s * view.sample_rate < view.size:
                reason = f"has more windows than {steps.segment_s} s have samples"
                raise ViewError(f"view {view.name}", reason, "make it smaller, or segments longer")
        shown = {view.frames for view in views if view.modality != "audio"}
        return cls(
            rate_hz=steps.rate_hz,
            segment_s=steps.segment_s,
            frames=tuple(sorted(shown - {1})),
            consecutive=any(view.modality in ("rgbdiff", "flow") for view in views),
            sound_rate_hz=rates.pop() if rates else None,
        )
