"""Holds video packets back until the sound of their time was decoded: no picture is ahead of its sound."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sdk.media.absence import SOUND_ENDED, SOUND_IS_LATE, SOUND_NOT_BEGUN
from sdk.media.frames import NoSound

if TYPE_CHECKING:
    import av

    VideoPacket = av.Packet[Any]

LATENESS_S = 0.3
"""How long a live picture waits for its sound."""
_LOOK_AHEAD_S = 2.0
_LARGEST = 64 * 2**20
_LATE, _ENDED = NoSound(SOUND_IS_LATE, at_once=True), NoSound(SOUND_ENDED)
_NOT_BEGUN = NoSound(SOUND_NOT_BEGUN)


@dataclass(frozen=True, slots=True)
class _Held:
    packet: VideoPacket
    time_s: float
    arrived_s: float


class LookAhead:
    """The video packets that wait, undecoded, for sound.

    A packet leaves when sound has reached its time. Otherwise, in a file, when packets two seconds of
    video (or 64 MiB) after it were read: no sound of its time is to be expected then. From a live stream it
    leaves with the first packet that comes 0.3 s or more after it, or at once where sound fell two seconds
    behind; its sound is late, then.
    """

    def __init__(self, *, live: bool) -> None:
        self._live = live
        self._held: deque[_Held] = deque()
        self._bytes = 0
        self._reached_s: float | None = None
        self._begun = False
        self._newest_s = float("-inf")

    def hold(self, packet: VideoPacket) -> None:
        """Add the next video packet."""
        stamp = packet.pts if packet.pts is not None else packet.dts
        known = stamp is not None and packet.time_base is not None
        time_s = float(stamp * packet.time_base) if known else float("-inf")  # type: ignore[operator]
        if self._reached_s is None and known:
            self._reached_s = time_s - 1e-9
        self._newest_s = max(self._newest_s, time_s)
        if time_s < self._newest_s - 2 * _LOOK_AHEAD_S:  # time began anew
            self._newest_s = time_s
        self._held.append(_Held(packet, time_s, time.monotonic()))
        self._bytes += packet.size

    def heard(self, until_s: float) -> None:
        """Sound was decoded, or failed to decode, up to ``until_s``."""
        self._reached_s, self._begun = until_s, True

    def leaving(self) -> Iterator[VideoPacket | NoSound]:
        """The packets that need not wait any longer, each after the lateness of its sound, if it is late."""
        while self._held:
            head = self._held[0]
            behind_s = self._behind_s(head.time_s)
            if behind_s > 0 and not self._is_over(head):
                return
            self._held.popleft()
            self._bytes -= head.packet.size
            if behind_s > 0 and self._live:
                yield _LATE if behind_s <= _LOOK_AHEAD_S else _ENDED if self._begun else _NOT_BEGUN
            yield head.packet

    def rest(self) -> Iterator[VideoPacket]:
        """All of them: nothing more will be heard."""
        while self._held:
            yield self._held.popleft().packet
        self._bytes = 0

    def _behind_s(self, time_s: float) -> float:
        """Seconds by which sound is behind ``time_s``."""
        return time_s - (float("inf") if self._reached_s is None else self._reached_s)

    def _is_over(self, head: _Held) -> bool:
        if self._live:
            waited_s = time.monotonic() - head.arrived_s
            return waited_s >= LATENESS_S or self._behind_s(self._newest_s) > _LOOK_AHEAD_S
        return self._newest_s - head.time_s > _LOOK_AHEAD_S or self._bytes > _LARGEST
