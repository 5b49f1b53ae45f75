"""Opens a file as a stream of bytes: plain, gzip, xz, bzip2 or zstd, the content agreeing with the name.

Python's own file objects take rubbish after a complete xz or bzip2 stream, and so a damaged second stream, for the
end of the file. Here every member is read to its end, and memory does not depend on the file.
"""

from __future__ import annotations

import bz2
import io
import lzma
import re
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from smoe_ds.errors import DataError

_CHUNK = 1 << 16  # compressed bytes read at a time
_BUFFER = 1 << 17  # decompressed bytes at a time
_XZ_MEMORY = 256 << 20  # `xz -9` needs 65 MiB; a hostile header may ask for 4 GiB
_OTHERS = {
    b"PK\x03\x04": "is a zip archive; unpack it and name the files inside",
    b"7z\xbc\xaf\x27\x1c": "is a 7-Zip archive; unpack it and name the files inside",
    b"\x04\x22\x4d\x18": "is lz4-compressed, which is not supported; unpack it with lz4 -d, or compress it with zstd",
}
"""First bytes of files that are compressed in other ways, and what to do about them."""


class _Decompressor(Protocol):
    """What the decompressors of `bz2`, `lzma` and `zstd` have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _GzipDecompressor:
    """One gzip member, with the interface of the other decompressors; zlib checks its CRC."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(zlib.MAX_WBITS | 16)

    @property
    def eof(self) -> bool:
        return self._member.eof

    @property
    def needs_input(self) -> bool:
        return not self._member.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._member.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._member.decompress(self._member.unconsumed_tail + data, max_length)


def zstd() -> Any:
    """Python's module for zstd files, or its copy for older versions of Python."""
    if sys.version_info >= (3, 14):
        from compression import zstd as module
    else:
        from backports import zstd as module
    return module


@dataclass(frozen=True)
class Compression:
    """A way of compressing files.

    Attributes:
        name: for messages.
        suffix: of the files' names.
        magic: matches the beginning of every such file.
        decompressor: makes one for the next member of a file.
    """

    name: str
    suffix: str
    magic: re.Pattern[bytes]
    decompressor: Callable[[], _Decompressor]


COMPRESSIONS = (
    Compression("gzip", ".gz", re.compile(rb"\x1f\x8b"), _GzipDecompressor),
    Compression(
        "xz", ".xz", re.compile(rb"\xfd7zXZ\0"), lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
    ),
    # A block of text, or none; three letters alone could begin a plain file.
    Compression("bzip2", ".bz2", re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"), bz2.BZ2Decompressor),
    Compression(
        "zstd", ".zst", re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"), lambda: zstd().ZstdDecompressor()
    ),
)

SUFFIXES = tuple(kind.suffix for kind in COMPRESSIONS)
"""Endings of the names of compressed files."""


def open_bytes(path: Path) -> BinaryIO:
    """Opens a file for reading, decompressed if its name says so; several members one after the other too.

    The stream raises DataError where the compressed content is damaged or ends early.

    Raises:
        DataError: the file cannot be opened, or its content is compressed in another way than its name says.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        compression = _compression(path, file.read(16))
    except (DataError, OSError):
        file.close()
        raise
    file.seek(0)
    if compression is None:
        return file
    return cast(BinaryIO, io.BufferedReader(_Decompressed(path, file, compression), _BUFFER))


def _compression(path: Path, start: bytes) -> Compression | None:
    named = next((kind for kind in COMPRESSIONS if kind.suffix == path.suffix), None)
    found = next((kind for kind in COMPRESSIONS if kind.magic.match(start)), None)
    if named is None and found is not None:
        raise DataError(
            f"{path}: is {found.name}-compressed, but is not named {found.suffix}; rename it or decompress it"
        )
    if named is not None and not start:
        raise DataError(f"{path}: is empty, so it is not a {named.name} file; copy or download it again")
    if named is not None and found is not named:
        what = f" but {found.name}-compressed" if found else ""
        raise DataError(
            f"{path}: is named {named.suffix}, but is not a {named.name} file{what}; rename it or compress it"
        )
    for beginning, remedy in _OTHERS.items():
        if start.startswith(beginning):
            raise DataError(f"{path}: {remedy}")
    return named


class _Decompressed(io.RawIOBase):
    """The decompressed content of a file, member after member; NUL bytes between members are padding."""

    def __init__(self, path: Path, file: BinaryIO, compression: Compression) -> None:
        self._path, self._file, self._compression = path, file, compression
        self._member: _Decompressor | None = None
        self._pending = b""

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = b""
        while not data and self._begin_member():
            data = self._read_member(len(view))
        view[: len(data)] = data
        return len(data)

    def _begin_member(self) -> bool:
        """Goes on with the member being read, or begins the next one; False at the end of the file."""
        while self._member is None:
            self._pending = (self._pending or self._file.read(_CHUNK)).lstrip(b"\0")
            if self._pending:
                self._member = self._compression.decompressor()
            elif not self._file.peek(1):  # type: ignore[attr-defined]  # a buffered reader has it
                return False
        return True

    def _read_member(self, size: int) -> bytes:
        member = self._member
        assert member is not None
        data, starved = b"", False
        if member.needs_input:
            data, self._pending = self._pending or self._file.read(_CHUNK), b""
            starved = not data
        try:
            text = member.decompress(data, size)
        except Exception as error:  # each library has its own class, and bz2 none
            raise DataError(self._explain(error)) from error
        if member.eof:
            self._member, self._pending = None, member.unused_data
        elif starved and not text:
            raise DataError(
                f"{self._path}: compressed file ended early, at byte {self._file.tell()}; copy or download it again"
            )
        return text

    def _explain(self, error: Exception) -> str:
        name, place = self._compression.name, self._file.tell()
        if "emory" in str(error):
            return f"{self._path}: needs too much memory to decompress ({error}); compress it with a smaller window"
        return f"{self._path}: damaged {name} file, near byte {place} ({error}); copy or download it again"
