"""Says on stderr what the preparation is doing, now and then, and keeps the time of its stages."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from smoe_ds.text_line import spelled_out


class Progress:
    """Prints a line per stage, and within a long one a line every ten seconds.

    Attributes:
        seconds: time that each stage took, by its name.
        work: folder in which this process puts finished pieces; None as long as it does not.
    """

    def __init__(self, *, quiet: bool = False, interval: float = 10.0) -> None:
        """Sets up the output.

        Args:
            quiet: print nothing.
            interval: time between lines within a stage [s].
        """
        self.quiet = quiet
        self.seconds: dict[str, float] = {}
        self.work: Path | None = None
        self._interval = interval
        self._start = self._last = time.monotonic()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A stage, from its beginning to its end."""
        began = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - began
        self.say(f"{name}: done")

    def say(self, text: str) -> None:
        """Prints a line with the time since the start."""
        self._last = time.monotonic()
        if not self.quiet:
            print(f"[{self._last - self._start:6.1f} s] {spelled_out(text)}", file=sys.stderr, flush=True)

    def tick(self, text: str) -> None:
        """Prints how far a stage has come, if it is time to."""
        if time.monotonic() - self._last >= self._interval:
            self.say(text)
