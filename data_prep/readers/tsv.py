"""One file with a sentence pair a line, its columns divided by single tabs; quotes mean nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_prep.readers.lines import LineReader
from data_prep.readers.notes import Notes
from data_prep.readers.sides import SidePair, Unusable
from smoe_ds.errors import DataError


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
