"""A stream that a thread takes, its results given to callbacks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator

from sdk.results import Recognition


class BackgroundStream:
    """A stream taken by ``thread``; once ``stopping`` is set, no more results are reported."""

    def __init__(
        self,
        stream: Generator[Recognition, None, None],
        on_result: Callable[[Recognition], None],
        on_error: Callable[[Exception], None],
        on_end: Callable[[], None] | None,
    ) -> None:
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, name="recognize", daemon=True)
        self._stream = stream
        self._on_result = on_result
        self._on_error = on_error
        self._on_end = on_end

    def _run(self) -> None:
        try:
            for recognition in self._stream:
                if self.stopping.is_set():
                    break
                self._report(recognition)
        except Exception as error:
            if not self.stopping.is_set():
                self._on_error(error)
        finally:
            self._stream.close()
            if self._on_end is not None:
                self._on_end()

    def _report(self, recognition: Recognition) -> None:
        try:
            self._on_result(recognition)
        except Exception as error:
            self._on_error(error)
