"""Memory-mapped files of numbers: few are open at a time, and few of their pages stay in this process.

Pages that were read once count as the process's memory until they are needed elsewhere: after an epoch that would be
the whole corpus. They are given back now and then; those that are read again come from the system's cache.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from threading import Lock
from typing import Any
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from smoe_ds.errors import DataError

RESIDENT = 8 << 20
"""Bytes of mapped files that may be resident, about."""

# A look-up maps what lies around the page it needs too, as far as it is in the cache: 64 KiB in Linux, 2 MiB where the
# cache holds large pages. So of places that go upwards all that lies between counts as resident.
_AROUND = 1 << 16


class Mapping:
    """One mapped file.

    Args:
        path: the file.
        dtype: type of its numbers.
        size: size it must have [bytes].

    Attributes:
        numbers: the file as a read-only array.
        identity: device, inode and time of change [ns] of what was mapped; another file of this name has another one.

    Raises:
        DataError: the file is gone, or has another size.
    """

    def __init__(self, path: Path, dtype: np.dtype, size: int) -> None:
        self.numbers: NDArray[Any] = np.empty(0, dtype)
        self.resident = 0
        self._path = path
        self._pages: mmap.mmap | None = None
        try:
            with path.open("rb") as file:
                stat = os.fstat(file.fileno())
                found, self.identity = stat.st_size, (stat.st_dev, stat.st_ino, stat.st_mtime_ns)
                if found == size and size:
                    self._pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                    self.numbers = np.frombuffer(self._pages, dtype)
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}") from error
        if found != size:
            raise DataError(f"{path}: expected {size} bytes, found {found}")

    def looked_up(self, count: int, span: int) -> None:
        """Says that ``count`` places are about to be read, the last one ``span`` bytes after the first.

        Raises:
            DataError: the file was cut meanwhile; to read beyond its end would kill the process.
        """
        if self._pages is not None and self._pages.size() != self.numbers.nbytes:
            raise DataError(f"{self._path}: expected {self.numbers.nbytes} bytes, found {self._pages.size()}")
        _RESIDENT.add(self, min(max(span + _AROUND, count * _AROUND), self.numbers.nbytes))

    def give_back(self) -> None:
        """Gives the pages back; the array stays good."""
        if self._pages is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._pages.madvise(mmap.MADV_DONTNEED)


class _Resident:
    """Counts what mappings hold, at most, and has them give it back when it is too much."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._bytes = 0
        self._mappings: WeakSet[Mapping] = WeakSet()  # one that nobody reads any more is closed

    def add(self, mapping: Mapping, size: int) -> None:
        with self._lock:
            new = min(mapping.resident + size, mapping.numbers.nbytes) - mapping.resident
            if self._bytes + new > RESIDENT:
                for other in self._mappings:
                    other.give_back()
                    other.resident = 0
                self._mappings.clear()
                self._bytes, new = 0, size
            mapping.resident += new
            self._bytes += new
            self._mappings.add(mapping)


_RESIDENT = _Resident()
