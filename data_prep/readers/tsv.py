"""One file with a sentence pair a line, its columns divided by single tabs; quotes mean nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import Field, field_validator

from data_prep.readers.block import Block
from data_prep.readers.file_name import FileName
from data_prep.readers.lines import LineReader
from data_prep.readers.notes import Notes
from data_prep.readers.sides import SidePair, Unusable
from data_prep.readers.source import Reading, Source, in_blocks
from smoe_ds.errors import DataError


class TsvSource(Source):
    """One file, plain or compressed, with a sentence pair a line. Single tabs separate the columns; no quoting."""

    tsv: FileName = Field(description="The file.")
    columns: list[int] | None = Field(
        None, description="Columns of the first and second language, counted from 0. null: there are exactly two."
    )
    header: bool = Field(False, description="Whether the first line has the names of the columns.")

    @field_validator("columns")
    @classmethod
    def _two_columns(cls, columns: list[int] | None) -> list[int] | None:
        if columns is not None and (len(columns) != 2 or min(columns) < 0 or columns[0] == columns[1]):
            raise ValueError(f"columns {columns} must be two different numbers from 0, e.g. [0, 1]")
        return columns

    def files(self) -> tuple[str, ...]:
        return (self.tsv,)

    def blocks(self, paths: Sequence[Path], reading: Reading) -> Iterator[Block]:
        return in_blocks(
            read_tsv(paths[0], self.columns, self.header, reading.notes, refuse_invalid=reading.refuse_invalid)
        )


def read_tsv(
    path: Path, columns: list[int] | None, header: bool, notes: Notes, *, refuse_invalid: bool
) -> Iterator[SidePair]:
    """Yields two columns of every line.

    Args:
        path: the file, plain or compressed.
        columns: numbers, from 0, of the two columns; None where every line has exactly two.
        header: leave out the first line.
        notes: what was fixed or is invalid, added to.
        refuse_invalid: see `LineReader`.

    Raises:
        DataError: a line has another number of columns, or the file cannot be read; see `LineReader`.
    """
    first, second = columns or (0, 1)
    expected = "exactly 2" if columns is None else f"at least {max(columns) + 1}"
    reader = LineReader(path, notes, refuse_invalid=refuse_invalid)
    for line in reader:
        if header and reader.num_lines == 1:
            continue
        if isinstance(line, Unusable):
            yield line, line
            continue
        fields = line.split("\t")
        if not line.strip():
            yield "", ""
        elif len(fields) <= max(first, second) or (columns is None and len(fields) != 2):
            raise DataError(
                f"{path}: line {reader.num_lines} has {len(fields)} columns, expected {expected}, divided by tabs; "
                "fix the line or set 'columns'"
            )
        else:
            yield fields[first], fields[second]
