"""The microphone beside a camera: a container of its own (ALSA), read in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator

import av

from sdk.media.absence import SOUND_IS_LATE, Absence
from sdk.media.audio.lookahead import LATENESS_S
from sdk.media.audio.sound import SoundTrack, open_sound
from sdk.media.frames import NoSound, SoundChunk

_CLOSE_MARGIN_S = 1.0
_MOST_WAITING = 1000


class Microphone:
    """Sound of the ALSA device ``name`` at ``rate_hz``, timed by the wall clock as its packets are.

    One that cannot be opened or is unplugged is reported as ``NoSound``; the pictures go on without it.
    """

    def __init__(self, name: str, rate_hz: int, read_timeout_s: float) -> None:
        self._name = name
        self._rate_hz = rate_hz
        self._timeout_s = read_timeout_s
        self._waiting: deque[SoundChunk | NoSound] = deque(maxlen=_MOST_WAITING)
        self._reached_s = float("-inf")
        self._late = False
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"listen {name}", daemon=True)
        self._thread.start()

    def heard_until(self, time_s: float) -> Iterator[SoundChunk | NoSound]:
        """What was heard, up to ``time_s`` at least; that it is late, if that is not so within 0.3 s.

        Once late, it is not waited for until something comes.
        """
        with self._changed:
            silent = self._late and not self._waiting
            until = time.monotonic() + (0.0 if silent else LATENESS_S)
            while self._reached_s < time_s and (left_s := until - time.monotonic()) > 0:
                self._changed.wait(left_s)
            heard = list(self._waiting)
            self._waiting.clear()
            self._late = self._reached_s < time_s
        yield from heard
        if self._late:
            yield NoSound(SOUND_IS_LATE, at_once=True)

    def close(self) -> None:
        """Stop listening; waits for the read that it may be in."""
        self._stop.set()
        self._thread.join(self._timeout_s + _CLOSE_MARGIN_S)

    def _run(self) -> None:
        try:
            with av.open(self._name, format="alsa", timeout=(self._timeout_s, self._timeout_s)) as container:
                track = open_sound(container, self._rate_hz)
                if isinstance(track, NoSound):
                    self._put(track, float("inf"))
                    return
                self._listen(container.demux(track.stream), track)
        except (av.error.FFmpegError, ValueError, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            self._put(
                NoSound(Absence(f"the microphone {self._name} is lost: {reason.lower()}")), float("inf")
            )

    def _listen(self, packets: Iterator[av.Packet[av.AudioStream]], track: SoundTrack) -> None:
        for packet in packets:
            for heard in track.decode(packet):
                reached_s = self._reached_s
                if isinstance(heard, SoundChunk):
                    reached_s = heard.time_s + heard.samples.size / self._rate_hz
                self._put(heard, reached_s)
            if self._stop.is_set():
                return

    def _put(self, heard: SoundChunk | NoSound, reached_s: float) -> None:
        with self._changed:
            self._waiting.append(heard)
            self._reached_s = reached_s
            self._changed.notify_all()
