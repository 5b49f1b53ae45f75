"""How the end of a run that failed is reported: ``crash.json`` in the run folder, and the last lines of the log."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

from smoe_ds.file_lock import HeldError, locked
from smoe_ds.run_names import CRASH, LOCK
from smoe_ds.text_line import spelled_out
from smoe_ds.watch.failure import Failure


class CrashFile:
    """``crash.json`` as the watchers of one start of a run write it.

    The first one to write decides: where hosts have lost each other, each side names the other. What was there when
    the watcher began is an earlier start's, and is replaced. A later start may be training by the time this one's
    end is written down: the folder is that one's then, and nothing is written.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / CRASH
        self._lock = folder / LOCK
        self._old = self._identity()

    def write(
        self, failure: Failure, *, world_size: int, others: Mapping[int, str], resume: str, signed: str | None
    ) -> bool:
        """Writes it at once, unless that is for another.

        Args:
            failure: of the first rank to fail.
            world_size: number of ranks.
            others: what each other rank was at, as far as known.
            resume: the command that goes on from the last checkpoint.
            signed: what this start's rank 0 writes into the lock; None if unknown.

        Returns:
            Whether it was written.

        Raises:
            OSError: it cannot be written.
        """
        fields = asdict(failure)
        del fields["ended"]  # on a clock that says nothing to others
        content = fields | {
            "world_size": world_size,
            "other_ranks": {str(rank): doing for rank, doing in sorted(others.items())},
            "resume": resume,
        }
        with self._folder(signed) as ours:
            if not ours or self._identity() not in (None, self._old):
                return False
            temporary = self._path.with_name(f".{CRASH}.{os.getpid()}")
            text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")  # names need not be UTF-8
            temporary.replace(self._path)
            return True

    @contextmanager
    def _folder(self, signed: str | None) -> Iterator[bool]:
        """Whether the folder is free or this start's, while it is entered.

        The lock of a host that was lost may be kept for it for a while, with this start's signature.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(locked(self._lock, lambda: None, sign=False))
            except HeldError as error:
                yield error.holder == signed
            else:
                yield True

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns


def crash_text(folder: Path, failure: Failure, world_size: int, resume: str) -> str:
    """The last lines of the log. They blame a rank only if more is known than that it lost sight of another."""
    lines = [spelled_out(failure.traceback.rstrip(), keep="\n\t")] if failure.traceback else []
    verdict = "failed" if failure.echo else "failed first"
    told = (
        f"rank {failure.rank} of {world_size} {verdict} (process {failure.pid} on {failure.host}), "
        f"{failure.doing} for {failure.seconds:.0f} s: {failure.message}"
    )
    place = f"see {folder / CRASH}; continue from the last checkpoint with: {resume}"
    lines += [f"smoe-ds: {spelled_out(text)}" for text in (told, place)]
    return "\n".join(lines) + "\n"
