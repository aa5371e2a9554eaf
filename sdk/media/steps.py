"""From pictures to steps: the one path by which training and the device choose their frames."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import islice

from sdk.media.addresses import parse_address
from sdk.media.clock import StepClock, Tick
from sdk.media.decoder import Decoder, DecoderOptions
from sdk.media.frames import Event, Frame, Picture, upright_rotation
from sdk.media.segments import PictureMemory, SoundMemory
from sdk.media.wanted import Wanted


class StepPicker:
    """Passes the pictures that are steps, as frames with their segments, and withholds the others.

    Pictures and sound of before a gap, or before an interruption of the source, are forgotten.
    """

    def __init__(self, wanted: Wanted | float, gap_s: float = 2.0) -> None:
        self._wanted = wanted if isinstance(wanted, Wanted) else Wanted(wanted)
        self._clock = StepClock(self._wanted.rate_hz, gap_s)
        self._index = 0
        self._decode_ms = 0.0
        several = self._wanted.frames or self._wanted.consecutive
        self._pictures = PictureMemory(self._wanted) if several else None
        rate_hz = self._wanted.sound_rate_hz
        self._sound = SoundMemory(rate_hz, self._wanted.segment_s) if rate_hz is not None else None
        self._begun = False

    def restart(self) -> None:
        """The source was interrupted: the next picture is a step, marked as restarted."""
        self._clock.restart()
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
        tick = self._clock.tick(picture.time_s)
        restarted = tick is Tick.STEP_AFTER_GAP
        if restarted or not self._begun:
            self._begin(picture.time_s, restarted)
        earlier: tuple[Picture, ...] = ()
        if self._pictures is not None:
            self._pictures.add(picture, self._clock.start_s)
            earlier = self._pictures.before(picture.time_s) if tick.is_step else ()
        if not tick.is_step:
            return None
        decode_ms, self._decode_ms = self._decode_ms, 0.0
        return Frame(
            time_s=picture.time_s,
            image=picture.image,
            rotation=upright_rotation(picture.image),
            decode_ms=decode_ms,
            arrived_s=picture.arrived_s,
            index=index,
            restarted=restarted,
            segment_s=self._wanted.segment_s,
            earlier=earlier,
            sound=None if self._sound is None else self._sound.segment(picture.time_s),
        )

    def frames(self, events: Iterator[Event]) -> Iterator[Frame]:
        """The frames among ``events``, lazily."""
        for event in events:
            frame = self.take(event)
            if frame is not None:
                yield frame

    def _begin(self, time_s: float, after_gap: bool) -> None:
        """Begin a stretch at ``time_s``: nothing of before it is in its segments."""
        self._begun = True
        if self._pictures is not None:
            self._pictures.clear()
        if self._sound is not None:
            self._sound.begin(time_s, after_gap=after_gap)


def decode_steps(
    path: str | os.PathLike[str],
    wanted: Wanted | float,
    limit: int | None = None,
    *,
    threads: int = 1,
    on_corrupt: Callable[[], None] = lambda: None,
) -> Iterator[Frame]:
    """The first ``limit`` steps (None: all) of a video file, decoded in the caller's thread.

    ``wanted``: what each step is to bring, or only how many there are per second. The frames are those
    that ``open_source`` gives for the same. ``on_corrupt`` is called for every damaged packet that was
    skipped.

    Raises: SourceError.
    """
    picker = StepPicker(wanted)
    options = DecoderOptions(threads=threads, sound_rate_hz=sound_rate_hz(wanted))
    with Decoder(parse_address(path), options, on_corrupt) as decoder:
        yield from islice(picker.frames(iter(decoder)), limit)


def sound_rate_hz(wanted: Wanted | float) -> int | None:
    """Samples per second of the sound to decode, None for none."""
    return wanted.sound_rate_hz if isinstance(wanted, Wanted) else None
