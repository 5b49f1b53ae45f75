"""Two text files, line N of one being the translation of line N of the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import Field

from data_prep.readers.block import Block
from data_prep.readers.file_name import FileName
from data_prep.readers.lines import LineReader
from data_prep.readers.notes import Notes
from data_prep.readers.side_lines import line_ends, sides_of
from data_prep.readers.sides import Side
from data_prep.readers.source import Reading, Source
from smoe_ds.errors import DataError


class TextPairSource(Source):
    """Two files, plain, .gz, .xz, .bz2 or .zst. Line N of one is the translation of line N of the other."""

    src: FileName = Field(description="File of the pair's first language.")
    tgt: FileName = Field(description="File of the pair's second language.")

    def files(self) -> tuple[str, ...]:
        return self.src, self.tgt

    def blocks(self, paths: Sequence[Path], reading: Reading) -> Iterator[Block]:
        src, tgt = paths
        return read_text_pair(src, tgt, reading.notes, refuse_invalid=reading.refuse_invalid)


def read_text_pair(src: Path, tgt: Path, notes: Notes, *, refuse_invalid: bool) -> Iterator[Block]:
    """Yields the lines of both files side by side, many at a time.

    Raises:
        DataError: the files differ in their number of lines, or one of them cannot be read; see `LineReader`.
    """
    readers = [LineReader(path, notes, refuse_invalid=refuse_invalid) for path in (src, tgt)]
    first, second = (_Waiting(reader.blocks()) for reader in readers)
    matched = 0
    while number := min(first.number(), second.number()):
        matched += number
        yield Block(first.take(number), second.take(number), number)
    surplus = [waiting.last_line() for waiting in (first, second)]
    counts = [reader.num_lines for reader in readers]
    if counts[0] != counts[1]:
        hint = "" if any(map(_has_text, surplus)) else "; the surplus ends with an empty line"
        raise DataError(
            f"{src} has {counts[0]} lines, {tgt} has {counts[1]}: they are not aligned beyond line {matched}{hint}; "
            "line N of one must be the translation of line N of the other"
        )


class _Waiting:
    """Lines of a file that wait for their counterparts."""

    def __init__(self, blocks: Iterator[tuple[bytes, int]]) -> None:
        self._blocks = blocks
        self._lines, self._number = b"", 0

    def number(self) -> int:
        """How many wait; none only at the file's end."""
        while not self._number:
            block = next(self._blocks, None)
            if block is None:
                break
            self._lines, self._number = block
        return self._number

    def take(self, number: int) -> bytes:
        """The next lines, of those that wait."""
        end = len(self._lines) if number == self._number else int(line_ends(self._lines)[number - 1]) + 1
        taken, self._lines = self._lines[:end], self._lines[end:]
        self._number -= number
        return taken

    def last_line(self) -> Side | None:
        """Reads to the file's end; the last line that has not been taken."""
        last = None
        while number := self.number():
            last = sides_of(self.take(number))[-1]
        return last


def _has_text(side: Side | None) -> bool:
    return bool(side.strip()) if isinstance(side, str) else side is not None
