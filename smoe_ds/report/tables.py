"""Plain-text tables with aligned columns."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

Cell = str | int | float | None
RULE: tuple[()] = ()
"""In place of a row: a line across the table."""


def text_table(header: Sequence[str], rows: Sequence[Sequence[Cell]], digits: int = 2) -> str:
    """A table whose first column is text, the others numbers.

    Args:
        header: names of the columns.
        rows: cells; None prints as ``-``, an empty row as a line across.
        digits: decimals of a float.

    Returns:
        Lines without a line feed at the end.
    """
    texts = [[_text(cell, digits) for cell in row] for row in rows]
    widths = [max(display_width(row[i]) for row in [header, *texts] if row) for i in range(len(header))]
    rule = "  ".join("-" * width for width in widths)
    lines = [_line(header, widths), rule, *(_line(row, widths) if row else rule for row in texts)]
    return "\n".join(lines)


def display_width(text: str) -> int:
    """Columns a text takes on a terminal: none for combining marks, two for wide characters."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def _text(cell: Cell, digits: int) -> str:
    if cell is None:
        return "-"
    return f"{cell:.{digits}f}" if isinstance(cell, float) else str(cell)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padding = [" " * (width - display_width(cell)) for cell, width in zip(cells, widths, strict=True)]
    first, *rest = zip(cells, padding, strict=True)
    return "  ".join(["".join(first), *(space + cell for cell, space in rest)]).rstrip()
