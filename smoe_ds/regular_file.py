"""Reads a file that a user names and nobody vouches for: a regular file, of a size that can be what it should be."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_KINDS = (
    (stat.S_ISDIR, errno.EISDIR, "is a folder"),
    (stat.S_ISFIFO, errno.EINVAL, "is a pipe"),
    (stat.S_ISCHR, errno.EINVAL, "is a device"),
    (stat.S_ISBLK, errno.EINVAL, "is a device"),
    (stat.S_ISSOCK, errno.EINVAL, "is a socket"),
)


def read_regular(path: str | Path, limit: int) -> bytes:
    """All bytes of a regular file.

    Args:
        path: the file.
        limit: the most bytes that it may have.

    Raises:
        OSError: it cannot be read, is no regular file, or is larger; ``strerror`` says so.
    """
    if "\0" in str(path):
        raise OSError(errno.EINVAL, "its name has a NUL character")
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would wait for its writer
    except UnicodeEncodeError as error:
        raise OSError(errno.EINVAL, "its name cannot be written in the file system's encoding") from error
    try:
        mode = os.fstat(descriptor).st_mode
        for is_kind, number, text in _KINDS:
            if is_kind(mode):
                raise OSError(number, f"{text}, not a file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(limit + 1)
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"has more than {limit:,} bytes")
    return data
