"""Text files as lines: UTF-8, cut at line feeds alone, a place named for what is not UTF-8; not compressed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice, zip_longest
from pathlib import Path
from typing import TypeVar

from smoe_ds.errors import DataError

Line = TypeVar("Line")
_COMPRESSED = {
    b"\x1f\x8b": ("gzip", "zcat"),
    b"\xfd7zXZ\x00": ("xz", "xzcat"),
    b"BZh91AY&SY": ("bzip2", "bzcat"),
    b"\x28\xb5\x2f\xfd": ("zstd", "zstdcat"),
    b"\x04\x22\x4d\x18": ("lz4", "lz4cat"),
    b"PK\x03\x04": ("zip", "unzip -p"),
    b"7z\xbc\xaf\x27\x1c": ("7-Zip", "7z x -so"),
}
"""First bytes of compressed files, and the programs that unpack them to standard output."""


def decoded_lines(raw_lines: Iterable[bytes], source: str) -> Iterator[str]:
    """Decodes lines one by one.

    Args:
        raw_lines: lines with or without their line feed, e.g. an open binary file.
        source: the input's name, for messages.

    Yields:
        Each line without its line feed.

    Raises:
        DataError: a line is not UTF-8; names line and byte. The lines before it have been yielded by then. Or the
            input is compressed.
    """
    offset = 0
    for number, raw in enumerate(raw_lines, start=1):
        if number == 1:
            _check_uncompressed(raw, source)
        try:
            yield raw.removesuffix(b"\n").decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{source}: line {number}, byte offset {offset + error.start} ({error.start} in the line): "
                f"0x{raw[error.start]:02x} is not UTF-8 ({error.reason}); convert the text to UTF-8"
            ) from None
        offset += len(raw)


def _check_uncompressed(first: bytes, source: str) -> None:
    for beginning, (name, program) in _COMPRESSED.items():
        if first.startswith(beginning):
            raise DataError(
                f"{source}: is compressed with {name}; unpack it, for example with {program}, and pipe it in"
            )


def paired(first: Iterator[str], first_name: str, second: Iterator[str], second_name: str) -> Iterator[tuple[str, str]]:
    """Line by line of two inputs.

    Raises:
        DataError: one ends before the other; what they have in common has been yielded by then. Or as in
            `decoded_lines`.
    """
    for number, (one, other) in enumerate(zip_longest(first, second)):
        if one is None or other is None:
            ended, longer = (first_name, second_name) if one is None else (second_name, first_name)
            raise DataError(f"{ended}: has {number} lines, but {longer} has more; give one line for each line")
        yield one, other


def chunked(lines: Iterator[Line], size: int) -> Iterator[list[Line]]:
    """Lists of ``size`` lines, the last one shorter; what was read before an error is yielded before it is raised."""
    chunk: list[Line] = []
    try:
        for line in lines:
            chunk.append(line)
            if len(chunk) == size:
                yield chunk
                chunk = []
    except DataError:
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk


def read_lines(path: Path, limit: int | None = None) -> list[str]:
    """The lines of a text file, at most ``limit``.

    Raises:
        DataError: it is missing or not UTF-8.
    """
    try:
        with path.open("rb") as file:
            return list(islice(decoded_lines(file, str(path)), limit))
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
