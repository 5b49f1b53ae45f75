"""Says on stderr what the preparation is doing, now and then."""

from __future__ import annotations

import sys
import time


class Progress:
    """Prints a line per step, and within a long one a line every ten seconds."""

    def __init__(self, *, quiet: bool = False, interval: float = 10.0) -> None:
        """Sets up the output.

        Args:
            quiet: print nothing.
            interval: time between lines within a step [s].
        """
        self.quiet = quiet
        self._interval = interval
        self._start = self._last = time.monotonic()

    def start(self) -> None:
        """Begins a long step: the first line about it comes after the interval."""
        self._last = time.monotonic()

    def say(self, text: str) -> None:
        """Prints a line with the time since the start."""
        self._last = time.monotonic()
        if not self.quiet:
            print(f"[{self._last - self._start:6.1f} s] {text}", file=sys.stderr, flush=True)

    def tick(self, what: str, number: int) -> None:
        """Prints how far a step has come, if it is time to."""
        if time.monotonic() - self._last >= self._interval:
            self.say(f"{what}: {number:,} pairs so far")
