"""One start of a run at a time writes to a run folder; the lock ends with the process that holds it."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from smoe_ds.errors import ConfigError

_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def make_folder(path: str) -> Path:
    """The run folder, made if need be; every rank tries to write there before anything else is done.

    Raises:
        ConfigError: it cannot be written.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(
            f"smoe.train.output_dir: {folder} cannot be written ({error}); choose another smoe.train.output_dir"
        ) from error
    return folder


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds ``run.lock`` in a run folder.

    It is a POSIX record lock (``fcntl``), which the kernel drops when the process ends, however that ends. NFS carries
    it to other hosts, Lustre where it is mounted with ``flock``. Where a file system has no locks, that is said.

    Raises:
        ConfigError: another process holds it.
    """
    descriptor = _acquire(folder)
    try:
        yield
    finally:
        os.close(descriptor)


def _acquire(folder: Path) -> int:
    path = folder / "run.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip() or "another process"
        if error.errno in (errno.EACCES, errno.EAGAIN):
            os.close(descriptor)
            raise ConfigError(
                f"smoe.train.output_dir: {holder} is training in {folder} ({path} is locked); wait for it, stop it, "
                "or choose another smoe.train.output_dir"
            ) from error
        if error.errno not in _UNSUPPORTED:
            os.close(descriptor)
            raise
        print(f"note: {folder}: this file system keeps no locks; start no second run in it", file=sys.stderr)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
    return descriptor
