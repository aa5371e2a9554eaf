"""The meter: joules since it was started, or that they are not known; and what every meter is built on."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from runtimes.errors import AdaptiveVideoError

Kind = Literal["rails", "gpu", "package", "battery", "app", "modeled"]
"""What is measured: the module's rails, one GPU, a processor's package, a battery; or who says it."""

Clock = Callable[[], float]


class MeterError(AdaptiveVideoError):
    """A meter cannot be read, e.g. for want of permission."""


class Meter(ABC):
    """Energy since the meter was made. A context manager; ``read`` may be called from any thread.

    ``kind`` and ``source`` say where the number comes from, ``period_s`` how often it is a new one.
    """

    kind: Kind
    source: str
    period_s: float

    @abstractmethod
    def read(self) -> float | None:
        """Joules since the meter was made; None, never 0, while they are not known."""

    @property
    def error(self) -> str | None:
        """Why ``read`` gives None; None if it does not."""
        return None

    def record_work(self, milliseconds: float, millijoules: float | None = None) -> None:  # noqa: B027
        """Record work that was done, and what the cost table says it took: a model counts by it."""

    def close(self) -> None:  # noqa: B027 - most meters have nothing to let go
        """Stop measuring. May be called twice."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True)
class Counter:
    """A running count of joules; ``wraps_at_j``: where it starts from 0 again, None if it never does.

    ``read_j`` raises OSError where the count cannot be read. ``close`` lets go what it reads from.
    """

    read_j: Callable[[], float]
    wraps_at_j: float | None = None
    close: Callable[[], None] = lambda: None


_MOST_W = 2000.0
"""More than any device that this runs on draws: a count that says more has jumped."""


class CounterMeter(Meter):
    """The sum of some counters, such as a processor's packages.

    A counter that goes back where it does not wrap, or jumps, is passed over: its energy between the
    two readings is not known, and ``read`` gives None once; afterwards it counts on. While none of them moves
    for ten seconds (or twenty periods), ``read`` gives None: no device uses nothing.
    """

    def __init__(
        self,
        kind: Kind,
        source: str,
        counters: Sequence[Counter],
        period_s: float,
        clock: Clock = time.monotonic,
    ) -> None:
        """Raises: OSError if a counter cannot be read now."""
        self.kind, self.source, self.period_s = kind, source, period_s
        self._counters, self._clock = list(counters), clock
        self._lock = threading.Lock()
        self._total_j, self._error = 0.0, None if counters else "there is no counter"
        self._last = [counter.read_j() for counter in counters]
        self._last_s = self._moved_s = clock()

    def read(self) -> float | None:
        """The sum of all counters' steps so far."""
        with self._lock:
            self._error = self._advance()
            return None if self._error else self._total_j

    @property
    def error(self) -> str | None:
        """What was wrong at the last reading."""
        return self._error

    def close(self) -> None:
        """Let the counters go; ``read`` gives None from then on."""
        with self._lock:
            counters, self._counters = self._counters, []
        for counter in counters:
            counter.close()

    def _advance(self) -> str | None:
        if not self._counters:
            return "there is no counter"
        try:
            now = [counter.read_j() for counter in self._counters]
        except OSError as error:
            return f"cannot be read: {error.strerror or error}"
        now_s = self._clock()
        steps = list(map(_step, self._counters, now, self._last))
        elapsed_s, self._last_s, self._last = now_s - self._last_s, now_s, now
        if min(steps) < 0:
            return "went back"
        stepped_j = sum(steps)
        if stepped_j > _MOST_W * max(elapsed_s, self.period_s):
            return f"jumped by {stepped_j:.0f} J in {elapsed_s:.2f} s"
        self._total_j += stepped_j
        self._moved_s = now_s if stepped_j > 0 else self._moved_s
        frozen_s = now_s - self._moved_s
        return f"has not moved for {frozen_s:.0f} s" if frozen_s > max(10.0, 20 * self.period_s) else None


def _step(counter: Counter, now: float, last: float) -> float:
    """Joules from one reading to the next, over one wrap at most."""
    if now < last and counter.wraps_at_j is not None:
        return now + counter.wraps_at_j - last
    return now - last


_LONGEST_GAP_S = 2.0
"""Power read longer ago says nothing of the time since."""


class PowerMeter(Meter):
    """Joules from a reading of watts, which a thread of its own takes every ``period_s`` (trapezoid rule).

    While the reading fails, or stays away for two seconds, the energy is not known.
    """

    def __init__(
        self,
        kind: Kind,
        source: str,
        read_w: Callable[[], float],
        period_s: float,
        clock: Clock = time.monotonic,
    ) -> None:
        """``read_w`` raises OSError where it fails. Raises: OSError if it fails now."""
        self.kind, self.source, self.period_s = kind, source, period_s
        self._read_w, self._clock = read_w, clock
        self._lock = threading.Lock()
        self._total_j = 0.0
        self._error: str | None = None
        self._last_w: float | None = read_w()
        self._last_s = clock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"power {source}", daemon=True)
        self._thread.start()

    def read(self) -> float | None:
        """The integral up to now; the last reading holds since it was taken."""
        with self._lock:
            since_s = self._clock() - self._last_s
            if self._last_w is None or self._late(since_s):
                return None
            return self._total_j + self._last_w * since_s

    @property
    def error(self) -> str | None:
        """Why the power was not read, or that it has not been for long."""
        with self._lock:
            since_s = self._clock() - self._last_s
            return self._error or (f"no reading for {since_s:.1f} s" if self._late(since_s) else None)

    def _late(self, since_s: float) -> bool:
        return since_s > max(_LONGEST_GAP_S, 4 * self.period_s)

    def sample(self) -> None:
        """Take one reading now; the meter's own thread does this every ``period_s``."""
        try:
            watts = self._read_w()
        except OSError as error:
            with self._lock:
                self._error, self._last_w = f"cannot be read: {error.strerror or error}", None
            return
        with self._lock:
            now_s = self._clock()
            if self._last_w is not None:
                self._total_j += (watts + self._last_w) / 2 * (now_s - self._last_s)
            self._last_w, self._last_s, self._error = watts, now_s, None

    def close(self) -> None:
        """Stop the thread."""
        self._stop.set()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout=1 + self.period_s)

    def _run(self) -> None:
        while not self._stop.wait(self.period_s):
            self.sample()
