"""A lock on a file that one process holds at a time, whichever its host; it ends with that process, however that ends.

It is a POSIX record lock (``fcntl``), which the kernel drops when the process ends. NFS carries it to other hosts,
Lustre where it is mounted with ``flock``; with ``localflock`` only the processes of one host see each other.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_PAUSE = 0.05  # between two attempts [s]


class HeldError(Exception):
    """Another process holds the lock.

    Attributes:
        holder: who, e.g. ``process 12 on node3``.
    """

    def __init__(self, holder: str) -> None:
        self.holder = holder
        super().__init__(holder)


@contextmanager
def locked(path: Path, no_locks: Callable[[], None], *, patience: float = 0.0, sign: bool = True) -> Iterator[None]:
    """Holds the lock on a file, which is made, with its folder, and may be removed meanwhile.

    Args:
        path: the file.
        no_locks: called where the file system has no locks; nobody then notices anybody else.
        patience: how long to wait for another holder to go [s].
        sign: whether to write into the file who holds it; without, the last one to sign stays readable.

    Raises:
        HeldError: another process holds it.
        OSError: the file cannot be written.
    """
    descriptor = _acquire(path, no_locks, time.monotonic() + patience)
    try:
        if sign:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{signature(os.getpid(), socket.gethostname())}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def signature(pid: int, host: str) -> str:
    """What a process writes into the file it has locked."""
    return f"process {pid} on {host}"


def _acquire(path: Path, no_locks: Callable[[], None], until: float) -> int:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:  # the folder was removed between the two lines
            continue
        try:
            _lock(descriptor, no_locks)
            if _is_still(path, descriptor):
                return descriptor
        except HeldError:
            if time.monotonic() >= until:
                os.close(descriptor)
                raise
            time.sleep(_PAUSE)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # held by another one, or removed by its last holder


def _lock(descriptor: int, no_locks: Callable[[], None]) -> None:
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            text = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
            raise HeldError(text or "another process") from error
        if error.errno not in _UNSUPPORTED:
            raise
        no_locks()


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False
