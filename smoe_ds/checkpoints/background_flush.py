"""Forces a growing file to disk on a thread of its own, so that little is left to wait for when it is closed."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor

_EVERY = 16 << 20  # bytes


class BackgroundFlush:
    """Starts a flush whenever enough was written since the last one began and that one is done.

    Args:
        descriptor: of the file; it stays open until `finish` or `stop` has returned.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="flush")
        self._running: Future[None] | None = None
        self._begun_at = 0

    def written(self, size: int) -> None:
        """Hears how large the file is by now.

        Raises:
            OSError: an earlier flush failed.
        """
        if size - self._begun_at < _EVERY or (self._running is not None and not self._running.done()):
            return
        if self._running is not None:
            self._running.result()
        self._begun_at = size
        self._running = self._executor.submit(os.fdatasync, self._descriptor)

    def finish(self) -> None:
        """Flushes what is left.

        Raises:
            OSError: this or an earlier flush failed: the system reports such an error only once.
        """
        self.stop()
        if self._running is not None:
            self._running.result()
        os.fsync(self._descriptor)

    def stop(self) -> None:
        """Ends the thread, after the flush it is in."""
        self._executor.shutdown()
