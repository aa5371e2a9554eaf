"""From pictures to steps: the one path by which training and the device choose their frames."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from itertools import islice

from sdk.media.addresses import parse_address
from sdk.media.clock import StepClock, Tick
from sdk.media.decoder import Decoder, DecoderOptions
from sdk.media.frames import Frame, Picture, upright_rotation


class StepPicker:
    """Passes the pictures that are steps, as frames, and withholds the others."""

    def __init__(self, rate_hz: float, gap_s: float = 2.0) -> None:
        self._clock = StepClock(rate_hz, gap_s)
        self._index = 0
        self._decode_ms = 0.0

    def restart(self) -> None:
        """The source was interrupted: the next picture is a step, marked as restarted."""
        self._clock.restart()

    def pick(self, picture: Picture) -> Frame | None:
        """The frame, if ``picture`` is a step."""
        index = self._index
        self._index += 1
        self._decode_ms += picture.decode_ms
        tick = self._clock.tick(picture.time_s)
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
            restarted=tick is Tick.STEP_AFTER_GAP,
        )

    def frames(self, pictures: Iterator[Picture]) -> Iterator[Frame]:
        """The frames among ``pictures``, lazily."""
        for picture in pictures:
            frame = self.pick(picture)
            if frame is not None:
                yield frame


def decode_steps(
    path: str | os.PathLike[str],
    rate_hz: float,
    limit: int | None = None,
    *,
    threads: int = 1,
    on_corrupt: Callable[[], None] = lambda: None,
) -> Iterator[Frame]:
    """The first ``limit`` steps (None: all) of a video file, decoded in the caller's thread.

    The frames are those that ``open_source(path, rate_hz=rate_hz)`` gives. ``on_corrupt`` is called for
    every damaged packet that was skipped.

    Raises: SourceError.
    """
    with Decoder(parse_address(path), DecoderOptions(threads=threads), on_corrupt) as decoder:
        yield from islice(StepPicker(rate_hz).frames(iter(decoder)), limit)
