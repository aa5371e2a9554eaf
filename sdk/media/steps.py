"""From pictures to steps: the one path by which training and the device choose their frames."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import islice

from sdk.errors import SourceError
from sdk.media.clock import StepClock, Tick
from sdk.media.frames import Event, Frame, Picture, upright_rotation
from sdk.media.requirements import StreamRequirements
from sdk.media.segments import PictureMemory, SoundMemory
from sdk.media.sources.addresses import parse_address
from sdk.media.sources.decoder import Decoder, DecoderOptions
from sdk.media.stream_time import StreamTime


class StepPicker:
    """Passes the pictures that are steps, as frames with their segments, and drops the others.

    A stretch's first step is due when a whole segment has passed. If the events end before, its last picture
    is its only step (``finish``). Pictures and sound of before a gap, or before an interruption of the
    source, are forgotten: a stretch that one of them ends before its first step has none.
    """

    def __init__(self, requirements: StreamRequirements | float, gap_s: float = 2.0) -> None:
        self._requirements = (
            requirements if isinstance(requirements, StreamRequirements) else StreamRequirements(requirements)
        )
        self._clock = StepClock(self._requirements.rate_hz, gap_s, self._requirements.segment_s)
        self._index = 0
        self._decode_ms = 0.0
        several = self._requirements.frames or self._requirements.consecutive
        self._pictures = PictureMemory(self._requirements) if several else None
        rate_hz = self._requirements.sound_rate_hz
        self._sound = SoundMemory(rate_hz, self._requirements.segment_s) if rate_hz is not None else None
        self._stretches = 0
        self._unanswered: tuple[Picture, int] | None = None

    def restart(self) -> None:
        """The source was interrupted: the next picture begins a stretch, whose first step is restarted."""
        self._clock.restart()
        self._unanswered = None
        if self._sound is not None:
            self._sound.clear()

    def take(self, event: Event) -> Frame | None:
        """The frame, if ``event`` is a picture that is a step. Sound is remembered for the steps to come."""
        if isinstance(event, Picture):
            return self.pick(event)
        if self._sound is not None:
            self._sound.add(event)
            self._decode_ms += getattr(event, "decode_ms", 0.0)
        return None

    def pick(self, picture: Picture) -> Frame | None:
        """The frame, if ``picture`` is a step."""
        index = self._index
        self._index += 1
        self._decode_ms += picture.decode_ms
        if picture.after_gap:
            self._clock.restart()
            self._unanswered = None
        tick = self._clock.tick(picture.time_s)
        if self._clock.began:
            self._begin(picture, index)
        if self._pictures is not None:
            self._pictures.add(picture, self._clock.first_due_s)
        if tick.is_step:
            self._unanswered = None
            return self._frame(picture, index, restarted=tick is Tick.STEP_AFTER_GAP)
        if self._unanswered is not None and picture.time_s > self._unanswered[0].time_s:
            self._unanswered = picture, index
        return None

    def finish(self) -> Frame | None:
        """The events ended: the last picture of a stretch that has no step yet is its step."""
        if self._unanswered is None:
            return None
        (picture, index), self._unanswered = self._unanswered, None
        return self._frame(picture, index, restarted=self._stretches > 1, off_grid=True)

    def frames(self, events: Iterator[Event]) -> Iterator[Frame]:
        """The frames among ``events``, lazily, with that of ``finish``, even if a failure ends them.

        Raises: SourceError, as ``events`` does.
        """
        failure: SourceError | None = None
        try:
            for event in events:
                frame = self.take(event)
                if frame is not None:
                    yield frame
        except SourceError as error:
            failure = error
        last = self.finish()
        if last is not None:
            yield last
        if failure is not None:
            raise failure

    def _begin(self, picture: Picture, index: int) -> None:
        """Begin a stretch with ``picture``: nothing of before it is in its segments."""
        if self._pictures is not None:
            self._pictures.clear()
        if self._sound is not None:
            self._sound.begin(picture.time_s, after_gap=self._stretches > 0)
        self._stretches += 1
        self._unanswered = picture, index

    def _frame(self, picture: Picture, index: int, *, restarted: bool, off_grid: bool = False) -> Frame:
        decode_ms, self._decode_ms = self._decode_ms, 0.0
        earlier = () if self._pictures is None else self._pictures.before(picture.time_s, off_grid=off_grid)
        return Frame(
            time_s=picture.time_s,
            image=picture.image,
            rotation=upright_rotation(picture.image),
            decode_ms=decode_ms,
            arrived_s=picture.arrived_s,
            index=index,
            restarted=restarted,
            segment_s=self._requirements.segment_s,
            earlier=earlier,
            sound=None if self._sound is None else self._sound.segment(picture.time_s),
            source_time_s=picture.time_s if picture.source_time_s is None else picture.source_time_s,
        )


def decode_steps(
    path: str | os.PathLike[str],
    requirements: StreamRequirements | float,
    limit: int | None = None,
    *,
    threads: int = 1,
    on_corrupt: Callable[[], None] = lambda: None,
) -> Iterator[Frame]:
    """The first ``limit`` steps (None: all) of a video file, decoded in the caller's thread.

    ``requirements``: what each step is to bring, or only how many there are per second. The frames are those
    that ``open_source`` gives for the same. ``on_corrupt`` is called for every damaged packet that was
    skipped.

    Raises: SourceError.
    """
    picker = StepPicker(requirements)
    options = DecoderOptions(threads=threads, sound_rate_hz=sound_rate_hz(requirements))
    with Decoder(parse_address(path), options, on_corrupt) as decoder:
        yield from islice(picker.frames(StreamTime().events(decoder, lambda: decoder.start_s)), limit)


def sound_rate_hz(requirements: StreamRequirements | float) -> int | None:
    """Samples per second of the sound to decode, None for none."""
    return requirements.sound_rate_hz if isinstance(requirements, StreamRequirements) else None
