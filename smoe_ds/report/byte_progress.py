"""How far the reading of many bytes has come: a line that is rewritten on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from threading import Lock
from typing import TextIO


class ByteProgress:
    """Says every few seconds how much was read.

    Args:
        stream: where to.
        interval: seconds between two lines.
    """

    def __init__(self, stream: TextIO, interval: float = 5.0) -> None:
        self._stream, self._interval = stream, interval
        self._done = 0
        self._last = time.monotonic()
        self._terminal = stream.isatty()
        self._on_line = False
        self._lock = Lock()

    def add(self, count: int, total: int) -> None:
        """So many bytes more were read, of a total; called from many threads."""
        with self._lock:
            self._done += count
            if time.monotonic() - self._last < self._interval:
                return
            self._last = time.monotonic()
            text = f"checked {self._done / 1e9:.2f} of {total / 1e9:.2f} GB"
            self._on_line = self._terminal
            start, end = ("\r", "") if self._terminal else ("", "\n")
            print(f"{start}{text}", end=end, file=self._stream, flush=True)

    def end(self) -> None:
        """Ends a line that was rewritten."""
        if self._on_line:
            print(file=self._stream)
