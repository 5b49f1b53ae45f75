"""Signs of life in small files of a folder that all ranks share: written in place, read by the other ranks' watchers.

A beat is one line ``CRC LENGTH`` and then JSON. Writing in place keeps the file the same for network file systems,
whose readers see a file's new content when they open it, but a new file's name up to a minute late.
"""

from __future__ import annotations

import json
import os
import secrets
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def beat_file(alive: Path, rank: int) -> Path:
    """The file of a rank's beats in the folder of one start's."""
    return alive / f"rank-{rank}"


class BeatFile:
    """This rank's beats.

    Args:
        path: the file; made by the first beat.

    Attributes:
        token: in every beat; another one each time somebody begins to write the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.token = secrets.token_hex(8)
        self._count = 0

    def write(self, content: Mapping[str, Any]) -> None:
        """The next beat; an `OSError` is the caller's."""
        self._count += 1
        text = json.dumps({**content, "token": self.token, "count": self._count}).encode()
        record = b"%08x %08d\n" % (zlib.crc32(text), len(text)) + text
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            os.pwrite(descriptor, record, 0)
        finally:
            os.close(descriptor)

    def remove(self) -> None:
        """This rank is over; the folder goes with the last one."""
        self._path.unlink(missing_ok=True)
        try:
            self._path.parent.rmdir()
        except OSError:
            return


def read_beat(path: Path) -> dict[str, Any] | None:
    """The last beat in a file; None while it is being written.

    Raises:
        FileNotFoundError: there is none yet, or the rank is over.
    """
    head, _, text = path.read_bytes().partition(b"\n")
    try:
        crc, length = head.split()
        text = text[: int(length)]
        if len(text) != int(length) or zlib.crc32(text) != int(crc, 16):
            return None
        content: dict[str, Any] = json.loads(text)
    except ValueError:
        return None
    return content


class Listener:
    """How long another rank has been quiet, by this process's own clock.

    A beat counts once the file has been seen to change: what an earlier run left behind says nothing. Time in which
    this process itself did not run (the machine slept, the file system hung) does not count as the other's silence.

    Args:
        path: the other rank's beat file.
        longest_pause: most that one look adds to the silence [s].

    Attributes:
        heard: the last beat, None before the first that counts.
        quiet: time since then [s].
        over: whether the rank took its file away.
    """

    def __init__(self, path: Path, longest_pause: float) -> None:
        self._path = path
        self._longest_pause = longest_pause
        self._last: tuple[str, int] | None = None
        self._looked: float | None = None
        self.heard: dict[str, Any] | None = None
        self.quiet = 0.0
        self.over = False

    def look(self, now: float) -> None:
        """Reads the file.

        Args:
            now: this process's monotonic time [s].
        """
        passed = 0.0 if self._looked is None else now - self._looked
        self._looked = now
        try:
            beat = read_beat(self._path)
        except FileNotFoundError:
            self.over = self.heard is not None
            return
        except OSError:
            return
        self.quiet += min(passed, self._longest_pause)
        if beat is None:
            return
        mark = (str(beat.get("token")), int(beat.get("count", 0)))
        if mark != self._last:
            if self._last is not None:
                self.heard, self.quiet, self.over = beat, 0.0, False
            self._last = mark
