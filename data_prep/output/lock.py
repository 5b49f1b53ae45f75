"""One preparation at a time writes to a folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from smoe_ds import file_lock
from smoe_ds.errors import DataError


@contextmanager
def locked(path: Path, output: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Holds the lock on a file, which is made, with its folder, and may be removed meanwhile.

    Args:
        path: the file.
        output: what the lock protects, for the error.
        say: where to tell that the file system has no locks, so that two preparations would not notice each other.

    Raises:
        DataError: another process holds it (the message names its host and number), or the file cannot be written.
    """

    def no_locks() -> None:
        say(f"note: {path.parent}: this file system has no locks; do not start a second preparation of {output}")

    with ExitStack() as stack:
        try:
            stack.enter_context(file_lock.locked(path, no_locks))
        except file_lock.HeldError as error:
            raise DataError(
                f"{output}: {error.holder} is preparing it ({path} is locked); wait for it, or choose another output"
            ) from error
        except OSError as error:
            raise DataError(
                f"{path}: cannot be locked: {error.strerror}; make its folder writable, or choose another output"
            ) from error
        yield
