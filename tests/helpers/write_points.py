"""Kills a process at the n-th operation by which it changes what lies under a folder; the code it runs knows nothing.

Numbered are: opening a file to write, each write to it (killed with half of the bytes written), fsync, rename,
replace, remove, making and removing a folder.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_CHANGING = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "os.link", "os.symlink"}
_OPEN_TO_CHANGE = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class WritePoints:
    """Numbers the points of this process and, where asked, ends it at one. There is no way back: fork first.

    Args:
        root: only what lies below counts.
        kill_at: number of the point, from 1, at which SIGKILL comes before the operation; None: count only.
    """

    def __init__(self, root: Path, kill_at: int | None) -> None:
        self.root, self.kill_at = str(root), kill_at
        self.names: list[str] = []
        sys.addaudithook(self._audit)
        self._open, self._fsync = io.open, os.fsync
        io.open = self._counted_open  # type: ignore[assignment]
        os.fsync = self._counted_fsync

    def point(self, name: str, half: Callable[[], Any] | None = None) -> None:
        """The next point."""
        self.names.append(name)
        if len(self.names) == self.kill_at:
            if half is not None:
                half()
            os.kill(os.getpid(), signal.SIGKILL)

    def _below(self, path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self.root)

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event in ("os.remove", "os.rmdir") and args[1] != -1:  # a name in an open folder, as rmtree gives it
            args = (Path(f"/proc/self/fd/{args[1]}").resolve() / args[0],)
        if (event in _CHANGING and self._below(args[0])) or (
            event == "open" and self._below(args[0]) and args[2] & _OPEN_TO_CHANGE
        ):
            self.point(f"{event} {args[0]}")

    def _counted_fsync(self, descriptor: int) -> None:
        self.point("fsync")
        self._fsync(descriptor)

    def _counted_open(self, file: Any, mode: str = "r", buffering: int = -1, *args: Any, **kwargs: Any) -> Any:
        if not self._below(file) or not set(mode) & set("wxa"):
            return self._open(file, mode, buffering, *args, **kwargs)
        raw = _CountedFile(os.fspath(file), mode.replace("b", "").replace("t", ""))
        raw.points = self
        if buffering == 0:
            return raw
        buffered = io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding="utf-8")


class _CountedFile(io.FileIO):
    points: WritePoints

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self.points.point(f"write {self.name}", half=lambda: super(_CountedFile, self).write(view[: len(view) // 2]))
        return super().write(view)


def killed_child(work: Callable[[], Any]) -> tuple[bool, str]:
    """Runs `work` in a fork of this process.

    Returns:
        Whether SIGKILL ended it (else it came to its end), and what it returned as text.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, str(work()).encode())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True, text
    assert os.WEXITSTATUS(status) == 0, "the child failed by itself"
    return False, text
