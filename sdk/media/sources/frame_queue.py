"""The bounded queue between the decoding thread and the recognizer, and its counted drops."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum

from sdk.media.frames import Frame


class Drop(StrEnum):
    """Why something of the stream never reached the consumer."""

    QUEUE_FULL = "queue_full"
    """A live frame came while the queue was full: the oldest in it made room."""
    STALE = "stale"
    """A live frame grew older than the staleness limit while a newer one was waiting."""
    CORRUPT = "corrupt"
    """A damaged packet, which may have held one frame, was skipped."""


class FrameQueue:
    """Hands frames from one thread to another. Every method may be called from any thread.

    A frame put with ``live=False`` waits for room; one with ``live=True`` never waits, and the oldest is
    dropped instead. When a frame that began a new stretch (``restarted``) is dropped, the next inherits it.

    Raises: ValueError if ``capacity`` is less than one.
    """

    def __init__(self, capacity: int, max_staleness_s: float) -> None:
        if capacity < 1:
            raise ValueError(f"capacity {capacity}: a queue needs room for one frame")
        self._capacity = capacity
        self._max_staleness_s = max_staleness_s
        self._frames: deque[tuple[Frame, bool]] = deque()
        self._drops: Counter[str] = Counter({str(cause): 0 for cause in Drop})
        self._changed = threading.Condition()
        self._ended = False
        self._error: BaseException | None = None

    @property
    def drops(self) -> Mapping[str, int]:
        """How many were dropped so far, by cause."""
        with self._changed:
            return dict(self._drops)

    def count(self, cause: Drop) -> None:
        """Count a drop that happened before the queue."""
        with self._changed:
            self._drops[cause] += 1

    def put(self, frame: Frame, *, live: bool) -> bool:
        """Add a frame. False: the queue has ended, and nobody will take it."""
        with self._changed:
            if not live:
                self._changed.wait_for(lambda: self._ended or len(self._frames) < self._capacity)
            if self._ended:
                return False
            self._frames.append((frame, live))
            if len(self._frames) > self._capacity:
                self._drop_oldest(Drop.QUEUE_FULL)
            self._changed.notify_all()
            return True

    def get(self) -> Frame | None:
        """The next frame, waiting for it; None at the end.

        Raises: the error that ended the stream, once, after the frames that came before it.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._frames)
            while len(self._frames) > 1 and self._is_stale(*self._frames[0]):
                self._drop_oldest(Drop.STALE)
            if self._frames:
                self._changed.notify_all()
                return self._frames.popleft()[0]
            error, self._error = self._error, None
        if error is not None:
            raise error
        return None

    def end(self, error: BaseException | None = None) -> None:
        """No more frames will come. Those waiting can still be taken, then ``error`` is raised."""
        with self._changed:
            if not self._ended:
                self._ended, self._error = True, error
            self._changed.notify_all()

    def close(self) -> None:
        """End the queue and let go of everything in it."""
        with self._changed:
            self._ended, self._error = True, None
            self._frames.clear()
            self._changed.notify_all()

    def _is_stale(self, frame: Frame, live: bool) -> bool:
        return live and time.monotonic() - frame.arrived_s > self._max_staleness_s

    def _drop_oldest(self, cause: Drop) -> None:
        dropped, _ = self._frames.popleft()
        self._drops[cause] += 1
        if dropped.restarted:
            heir, live = self._frames[0]
            self._frames[0] = (replace(heir, restarted=True), live)
