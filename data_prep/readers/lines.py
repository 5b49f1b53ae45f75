"""Lines of a text file, plain or compressed, as bytes would have it: only LF ends a line, and CRLF counts as LF.

Python's text mode and `str.splitlines` also break lines at CR, U+2028, U+0085 and others, which shifts one side of a
parallel corpus against the other.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from data_prep.readers.compressed import open_bytes
from data_prep.readers.notes import Notes
from data_prep.readers.side_lines import line_ends, lines_of, sides_of
from data_prep.readers.sides import Side, Unusable
from smoe_ds.errors import DataError

MAX_LINE_BYTES = 4 << 20  # a longer line is never held in memory
_BLOCK_BYTES = 1 << 16
_MARKS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_UTF8_MARK = b"\xef\xbb\xbf"


def _whole_lines(file: BinaryIO) -> bytes:
    """The next 64 KiB or so, to the end of a line, unless that line is too long; nothing at the file's end."""
    block = file.read(_BLOCK_BYTES)
    return block if block.endswith(b"\n") or not block else block + file.readline(MAX_LINE_BYTES)


def _num_non_ascii(lines: bytes) -> int:
    """How many lines hold a byte that is not ASCII."""
    starts = np.append(0, line_ends(lines)[:-1] + 1)
    return int(np.count_nonzero(np.maximum.reduceat(np.frombuffer(lines, np.uint8), starts) >= 0x80))


class LineReader:
    """Reads a file line by line and keeps count; what concerns the whole file is refused at its end.

    Attributes:
        num_lines: lines so far; a final line end begins no further line.
    """

    def __init__(self, path: Path, notes: Notes, *, refuse_invalid: bool) -> None:
        self.path = path
        self.num_lines = 0
        self._notes = notes
        self._refuse_invalid = refuse_invalid
        self._num_before = self._lone_cr = self._non_ascii = self._invalid = 0
        self._first_invalid = self._first_long = ""

    def __iter__(self) -> Iterator[Side]:
        """Yields the text of each line, or why it has none.

        Raises:
            DataError: the file is not UTF-8, damaged, ended early, or has the line ends of old Macs.
        """
        for lines, _ in self._blocks():
            for side in sides_of(lines):
                self.num_lines += 1
                yield side

    def blocks(self) -> Iterator[tuple[bytes, int]]:
        """Yields the same many lines at a time, in the form of `lines_of`, and their number."""
        for lines, number in self._blocks():
            self.num_lines += number
            yield lines, number

    def _blocks(self) -> Iterator[tuple[bytes, int]]:
        with open_bytes(self.path) as file:
            block, offset = self._first_block(file)
            while block:
                if self._is_plain(block):
                    lines = block if block.endswith(b"\n") else block + b"\n"
                    number, size = lines.count(b"\n"), len(block)
                    self._non_ascii += 0 if block.isascii() else _num_non_ascii(lines)
                else:
                    sides, size = self._look_closely(block, file, offset)
                    lines, number = lines_of(sides), len(sides)
                yield lines, number
                self._num_before += number
                offset += size
                block = _whole_lines(file)
        self._check_whole_file()

    def _first_block(self, file: BinaryIO) -> tuple[bytes, int]:
        """The first block without a byte order mark, and the offset where it begins."""
        block = _whole_lines(file)
        self._check_encoding(block[: block.find(b"\n") + 1 or None])
        if not block.startswith(_UTF8_MARK):
            return block, 0
        self._notes.counts["byte_order_mark"] += 1
        return block[len(_UTF8_MARK) :] or _whole_lines(file), len(_UTF8_MARK)

    def _is_plain(self, block: bytes) -> bool:
        """Whether no line of a block needs a closer look, as in nearly all blocks."""
        if b"\r" in block or len(block) >= MAX_LINE_BYTES:
            return False
        try:
            block.decode("utf-8")
        except UnicodeDecodeError:
            return False
        return True

    def _look_closely(self, block: bytes, file: BinaryIO, offset: int) -> tuple[list[Side], int]:
        """The lines of a block, the last of which may go on in the file, and the bytes they take there."""
        sides: list[Side] = []
        begin = offset
        for line in io.BytesIO(block):
            size = len(line)
            if len(line.removesuffix(b"\n")) >= MAX_LINE_BYTES:
                self._first_long = self._first_long or f"line {self._num_before + len(sides) + 1}, byte offset {offset}"
                self._lone_cr += line.count(b"\r")
                size += 0 if line.endswith(b"\n") else self._skip_rest(file)
                sides.append(Unusable.TOO_LONG)
            else:
                number = self._num_before + len(sides) + 1
                sides.append(self._decode(self._without_end(line), number, offset))
            offset += size
        return sides, offset - begin

    def _without_end(self, line: bytes) -> bytes:
        if line.endswith(b"\r\n"):
            self._notes.counts["crlf"] += 1
            line = line[:-2]
        elif line.endswith(b"\n"):
            line = line[:-1]
        if b"\r" in line:
            self._lone_cr += line.count(b"\r")
        return line

    def _decode(self, line: bytes, number: int, offset: int) -> Side:
        self._non_ascii += not line.isascii()
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError as error:
            place = f"line {number}, byte offset {offset + error.start} (0x{line[error.start]:02x})"
        self._invalid += 1
        self._first_invalid = self._first_invalid or place
        if self._refuse_invalid:
            raise DataError(f"{self.path}: not UTF-8: {place}; convert the file, or set clean.invalid_utf8 to drop")
        return Unusable.INVALID_UTF8

    def _skip_rest(self, file: BinaryIO) -> int:
        """Reads to the end of an over-long line; returns the bytes read."""
        size = 0
        while block := file.readline(_BLOCK_BYTES):
            size += len(block)
            self._lone_cr += block.count(b"\r")
            if block.endswith(b"\n"):
                break
        return size

    def _check_encoding(self, start: bytes) -> None:
        for mark, name in _MARKS:
            if start.startswith(mark):
                raise DataError(
                    f"{self.path}: not UTF-8: line 1, byte offset 0: {name} byte order mark; convert the file to UTF-8"
                )
        head = start[:4096]
        if head.count(0) * 4 > len(head):
            raise DataError(
                f"{self.path}: line 1 is NUL bytes for a quarter or more: UTF-16, UTF-32 or no text at all; "
                "convert the file to UTF-8"
            )

    def _check_whole_file(self) -> None:
        if self._first_invalid:
            self._notes.places.append(f"{self.path.name}: first line that is not UTF-8: {self._first_invalid}")
        if self._first_long:
            self._notes.places.append(
                f"{self.path.name}: first line of {MAX_LINE_BYTES >> 20} MiB or more: {self._first_long}"
            )
        if self._lone_cr > self.num_lines:
            raise DataError(
                f"{self.path}: {self._lone_cr} lone CR characters in {self.num_lines} lines: old-Mac line ends; "
                "convert them to LF"
            )
        if self._invalid > 1 and 2 * self._invalid > self._non_ascii:
            raise DataError(
                f"{self.path}: not UTF-8: {self._invalid} of {self._non_ascii} lines with non-ASCII bytes are invalid, "
                f"the first at {self._first_invalid}; convert the file from its encoding to UTF-8"
            )
