"""SHA-256 on a thread of its own: what is written is hashed meanwhile, on another core."""

from __future__ import annotations

import hashlib
import queue
import threading

WAITING = 32  # pieces; with the one being hashed they bound the memory


class BackgroundHash:
    """Hashes pieces in the order given. Their memory must stay as it is until `hexdigest` or `stop` has returned."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._pieces: queue.Queue[bytes | memoryview | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._run, name="sha256", daemon=True)
        self._thread.start()

    def update(self, piece: bytes | memoryview) -> None:
        """Takes the next piece; waits while too many are waiting."""
        self._pieces.put(piece)

    def hexdigest(self) -> str:
        """The hash of all pieces, when they are done."""
        self.stop()
        return self._digest.hexdigest()

    def stop(self) -> None:
        """Ends the thread, after the pieces it was given."""
        if self._thread.is_alive():
            self._pieces.put(None)
            self._thread.join()

    def _run(self) -> None:
        while (piece := self._pieces.get()) is not None:
            self._digest.update(piece)
