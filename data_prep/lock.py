"""One preparation at a time writes to a folder; the lock ends with the process that holds it, however that ends."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from smoe_ds.errors import DataError

_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def locked(path: Path, output: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Holds a lock on a file, which is made and may be removed meanwhile.

    It is a POSIX record lock (``fcntl``): the kernel releases it when the process ends. NFS and Lustre mounted with
    ``flock`` carry it to other hosts; Lustre with ``localflock`` does not, and then only runs on one host see each
    other. A file system without locks is said, and two runs would not notice each other.

    Args:
        path: the file.
        output: what the lock protects, for the error.
        say: where to tell that there are no locks.

    Raises:
        DataError: another process holds it; the message names its host and number.
    """
    descriptor = _acquire(path, output, say)
    try:
        yield
    finally:
        os.close(descriptor)


def _acquire(path: Path, output: Path, say: Callable[[str], None]) -> int:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:  # the folder was removed between the two lines
            continue
        try:
            _lock(descriptor, path, output, say)
            if _is_still(path, descriptor):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its last holder has removed the file meanwhile


def _lock(descriptor: int, path: Path, output: Path, say: Callable[[str], None]) -> None:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip() or "another process"
            raise DataError(
                f"{output}: {holder} is preparing it ({path} is locked); wait for it, or choose another output"
            ) from error
        if error.errno not in _UNSUPPORTED:
            raise
        say(f"note: {path.parent}: this file system keeps no locks; start no second preparation of {output}")


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
