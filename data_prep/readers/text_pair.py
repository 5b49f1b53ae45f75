"""Two text files, line N of one being the translation of line N of the other."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from data_prep.readers.lines import LineReader
from data_prep.readers.notes import Notes
from data_prep.readers.sides import SidePair
from smoe_ds.errors import DataError


def read_text_pair(src: Path, tgt: Path, notes: Notes, *, refuse_invalid: bool) -> Iterator[SidePair]:
    """Yields the lines of both files side by side.

    Raises:
        DataError: the files differ in their number of lines, or one of them cannot be read; see `LineReader`.
    """
    readers = [LineReader(path, notes, refuse_invalid=refuse_invalid) for path in (src, tgt)]
    matched, last = 0, [True, True]
    for first, second in zip_longest(*readers):
        if first is not None and second is not None:
            matched += 1
            yield first, second
        else:
            last = [_has_text(first), _has_text(second)]
    counts = [reader.num_lines for reader in readers]
    if counts[0] != counts[1]:
        hint = "" if any(last) else "; the surplus ends with an empty line"
        raise DataError(
            f"{src} has {counts[0]} lines, {tgt} has {counts[1]}: they are not aligned beyond line {matched}{hint}; "
            "line N of one must be the translation of line N of the other"
        )


def _has_text(side: object) -> bool:
    return bool(side.strip()) if isinstance(side, str) else side is not None
