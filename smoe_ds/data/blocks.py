"""Checksums of the blocks of a file: a reader checks what it is about to read, once, and no more than that.

A file is cut into blocks of equal size, the last one shorter; each has a CRC-32. The checksums of a file find every
change of up to three bits in a block and every change within 32 bits in a row; of all others all but one in 2^32. That
they belong to this file, and are whole themselves, is vouched for by the SHA-256 of the checksums in the manifest.

Source of the first number: Koopman, "32-bit cyclic redundancy codes for Internet applications" (2002): CRC-32 (IEEE
802.3) has Hamming distance 4 up to 91,607 bits.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smoe_ds.data.mapping import Mapping
from smoe_ds.data.ragged import Int64, spans
from smoe_ds.errors import DataError

SUM_DTYPE = np.dtype("<u4")
_MAPPED_FILES = 384  # a mapping holds a file descriptor, and the usual limit is 1,024 in a process
_REMEDY = "restore the file or prepare the corpus again with --overwrite; `smoe-ds data check` finds all damage"
_REPLACED = "start again, and do not prepare into a folder that a run reads"


def num_blocks(size: int, block: int) -> int:
    """Blocks of ``block`` bytes in a file of ``size`` bytes."""
    return -(-size // block)


class BlockSums:
    """Checksums of the blocks of a file that is being written."""

    def __init__(self, block: int) -> None:
        self._block = block
        self._done: list[int] = []
        self._sum = self._filled = 0

    def update(self, data: bytes) -> None:
        """Appends."""
        rest = memoryview(data)
        while rest:
            part = rest[: self._block - self._filled]
            self._sum = zlib.crc32(part, self._sum)
            self._filled += len(part)
            if self._filled == self._block:
                self._done.append(self._sum)
                self._sum = self._filled = 0
            rest = rest[len(part) :]

    def sums(self) -> NDArray[np.uint32]:
        """The checksums of all blocks so far, the last one as it is."""
        return np.array([*self._done, *([self._sum] if self._filled else [])], SUM_DTYPE)


def read_sums(path: Path, entry: dict[str, Any]) -> NDArray[np.uint32]:
    """The checksums of a file or more, in a file of their own.

    Args:
        path: where they are.
        entry: what the manifest says of this file: ``bytes`` and ``sha256``.

    Raises:
        DataError: they are not those that were written.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}; {_REMEDY}") from error
    found = hashlib.sha256(data).hexdigest()
    if found != entry["sha256"]:
        raise DataError(
            f"{path}: content changed: {len(data)} bytes with SHA-256 {found}, manifest.json says {entry['bytes']} "
            f"bytes with {entry['sha256']}; {_REMEDY}"
        )
    return np.frombuffer(data, SUM_DTYPE)


class CheckedFile:
    """A memory-mapped file of numbers whose blocks are compared with their checksums before they are first read.

    It holds the checksums and one byte per block, a thousandth of the file or less with blocks of 4 KiB.

    Args:
        path: the file.
        dtype: type of its numbers.
        size: its size when it was written [bytes].
        block: size of a block [bytes].
        sums: checksums of its blocks.
        place: says in words what lies from one byte to another, for the error.
    """

    def __init__(
        self,
        path: Path,
        dtype: np.dtype,
        size: int,
        block: int,
        sums: NDArray[np.uint32],
        place: Callable[[int, int], str],
    ) -> None:
        self.path = path
        self._dtype, self._size, self._block, self._place = dtype, size, block, place
        self._sums = sums
        self._checked = np.zeros(num_blocks(size, block), np.bool_)
        self._all_checked = not len(self._checked)
        self._identity: tuple[int, ...] | None = None  # of the file whose blocks are checked

    def read(self, start: Int64, stop: Int64) -> NDArray[Any]:
        """The mapped file, of which the numbers ``start[i]`` to ``stop[i] - 1`` are checked for every i.

        Raises:
            DataError: the file is gone, has another size or was replaced since it was first read, or a block is not
                what was written; the message names it.
        """
        try:
            mapping = _map(self)
            span = int(stop[-1] - start[0]) * self._dtype.itemsize if len(start) else 0
            mapping.looked_up(len(start), span)
        except DataError as error:
            raise DataError(f"{error}; {_REMEDY}") from error
        self._identity = self._identity or mapping.identity
        if mapping.identity != self._identity:
            raise DataError(f"{self.path}: was replaced while it was read; {_REPLACED}")
        if not self._all_checked:
            self._check(mapping.numbers, start * self._dtype.itemsize, stop * self._dtype.itemsize)
        return mapping.numbers

    def _check(self, numbers: NDArray[Any], start: Int64, stop: Int64) -> None:
        first = start // self._block
        count = np.where(stop > start, (stop - 1) // self._block + 1 - first, 0)
        blocks = first if (count == 1).all() else spans(first, count)
        unchecked = blocks[~self._checked[blocks]]
        if not len(unchecked):
            return
        new = np.array(sorted(set(unchecked.tolist())))
        wrong = new[self._sums_of(numbers, new) != self._sums[new]]
        if len(wrong):
            raise DataError(f"{self.path}: content changed at byte offset {self._range(int(wrong[0]))}; {_REMEDY}")
        self._checked[new] = True
        self._all_checked = bool(self._checked.all())

    def damaged_blocks(self) -> list[str]:
        """Byte offsets of each block that is not what was written, and what lies there; reads the whole file."""
        found = self._sums_of(_map(self).numbers, np.arange(len(self._sums)))
        return [self._range(number) for number in np.flatnonzero(found != self._sums).tolist()]

    def _sums_of(self, numbers: NDArray[Any], blocks: Int64) -> NDArray[np.uint32]:
        """The checksums that some blocks have now."""
        data, size, crc32 = numbers.view(np.uint8).data, self._block, zlib.crc32
        found = [crc32(data[start : start + size]) for start in (blocks * size).tolist()]
        return np.array(found, SUM_DTYPE)

    def map(self) -> Mapping:
        """Maps the file; called through a cache of mappings."""
        return Mapping(self.path, self._dtype, self._size)

    def _range(self, number: int) -> str:
        start = number * self._block
        stop = min(start + self._block, self._size)
        return f"{start} to {stop - 1} ({self._place(start, stop)})"


@lru_cache(maxsize=_MAPPED_FILES)
def _map(file: CheckedFile) -> Mapping:
    """Mappings are shared by all readers of a file, and the oldest ones dropped."""
    return file.map()
