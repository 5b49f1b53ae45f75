"""A table as data, until it is rendered: aligned text for a terminal, Markdown, LaTeX, or rows of JSON."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from smoe_ds.report.latex import comments, latex_escaped, tabular
from smoe_ds.text_line import spelled_out

_WITHOUT_WIDTH = {"Mn", "Me", "Cf"}
"""Unicode categories of characters that take no column of their own: combining marks and format characters."""
_MARKDOWN = re.compile(r"[\\|`*_<\[\]~]")
"""What Markdown would not show as it stands."""


@dataclass(frozen=True)
class Marked:
    """A number with a sign behind it, which a note below the table explains.

    Attributes:
        value: the number.
        sign: the sign; empty where there is nothing to explain.
    """

    value: float
    sign: str


@dataclass(frozen=True)
class Ranked:
    """A number among others; the best one and the second best are marked, in print as the paper marks them.

    Attributes:
        value: the number.
        place: 1 for the best, 2 for the second best, 0 for all others.
    """

    value: float
    place: int = 0

    @staticmethod
    def among(values: Sequence[float | None]) -> list[Ranked | None]:
        """Numbers of which the highest is the best, equal ones alike; without marks if there is only one."""
        there = [value for value in values if value is not None]
        best = sorted(set(there), reverse=True)[: 2 if len(there) > 1 else 0]
        places = {value: place for place, value in enumerate(best, start=1)}
        return [None if value is None else Ranked(value, places.get(value, 0)) for value in values]


Cell = str | int | float | Marked | Ranked | None
_SIGNS = ("  ", " *", " +")
"""Behind a `Ranked` number in text, by its place; all of them equally wide."""
RULE: tuple[()] = ()
"""In place of a row: a line across the table."""


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        header: its name for a reader, with the unit.
        key: its name in JSON.
        align: where its cells stand.
        format: of its numbers: a format specification such as ``",.2f"``, or a function; strings stay as they are.
        missing: what stands in place of None.
    """

    header: str
    key: str
    align: Literal["left", "right"] = "right"
    format: str | Callable[[float], str] = ""
    missing: str = "-"

    def text(self, cell: Cell) -> str:
        """A cell as a reader sees it."""
        match cell:
            case None:
                return self.missing
            case str():
                return spelled_out(cell)
            case Marked(value, sign):
                return f"{self.text(value)} {sign}".rstrip()
            case Ranked(value, place):
                return f"{self.text(value)}{_SIGNS[place]}"
        return self.format(cell) if callable(self.format) else format(cell, self.format)

    def markdown(self, cell: Cell) -> str:
        """A cell in Markdown: the best number in bold, the second best in italics."""
        if isinstance(cell, Ranked):
            sign = ("", "**", "_")[cell.place]
            return f"{sign}{escaped(self.text(cell.value))}{sign}"
        return escaped(self.text(cell))

    def latex(self, cell: Cell) -> str:
        """A cell in LaTeX: the best number in bold, the second best underlined."""
        if isinstance(cell, Ranked):
            text = latex_escaped(self.text(cell.value))
            return (text, rf"\textbf{{{text}}}", rf"\underline{{{text}}}")[cell.place]
        return latex_escaped(self.text(cell))


@dataclass(frozen=True)
class Table:
    """Columns, rows, and what a reader has to know of them.

    Attributes:
        columns: at least one, their keys all different.
        rows: a cell for each column, or `RULE`.
        notes: lines that stand right below the table.

    Raises:
        ValueError: a row has another number of cells than there are columns, or two columns have one key.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len({column.key for column in self.columns}) < len(self.columns):
            raise ValueError(f"two columns have the same key: {[column.key for column in self.columns]}")
        if wrong := [row for row in self.rows if row != RULE and len(row) != len(self.columns)]:
            raise ValueError(f"expected {len(self.columns)} cells in a row, found {wrong[0]}")

    @property
    def headers(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(column.header for column in self.columns)

    def texts(self) -> list[tuple[str, ...]]:
        """The rows with every cell written out; `RULE` stays."""
        return [
            tuple(column.text(cell) for column, cell in zip(self.columns, row, strict=True)) if row else RULE
            for row in self.rows
        ]

    def text(self, *, underlined: bool = True) -> str:
        """Lines with aligned columns, without a line feed at the end.

        Args:
            underlined: whether a line across the table stands below the header.
        """
        rows = self.texts()
        widths = [max(display_width(row[i]) for row in [self.headers, *rows] if row) for i in range(len(self.columns))]
        rule = "  ".join("-" * width for width in widths)
        lines = [self._line(self.headers, widths), *([rule] if underlined else [])]
        lines += [self._line(row, widths) if row else rule for row in rows]
        return "\n".join([*lines, *map(spelled_out, self.notes_of_text)])

    @property
    def notes_of_text(self) -> list[str]:
        """The notes, and before them what the signs in `texts` mean, if there are any."""
        return self._explained("* best, + second best")

    def markdown(self) -> str:
        """A table of GitHub's Markdown; lines across it, which that does not have, are left out."""
        marks = ["---" if column.align == "left" else "---:" for column in self.columns]
        rows = [list(map(escaped, self.headers))]
        rows += [[column.markdown(cell) for column, cell in zip(self.columns, row, strict=True)] for row in self._rows]
        lines = [f"| {' | '.join(row)} |" for row in rows]
        notes = [line for note in self._explained("bold: best, italics: second best") for line in ("", escaped(note))]
        return "\n".join([lines[0], f"|{'|'.join(marks)}|", *lines[1:], *notes])

    def latex(self) -> str:
        """A ``tabular`` with booktabs' lines; notes are comments below it."""
        rows = [
            [column.latex(cell) for column, cell in zip(self.columns, row, strict=True)] if row else []
            for row in self.rows
        ]
        header = list(map(latex_escaped, self.headers))
        table = tabular("".join(column.align[0] for column in self.columns), header, rows)
        notes = self._explained("bold: best, underlined: second best")
        return "\n".join([table, *([comments(notes)] if notes else [])])

    def _explained(self, marks: str) -> list[str]:
        """The notes, and before them what the marks of `Ranked` numbers mean, if there are any."""
        ranked = any(isinstance(cell, Ranked) and cell.place for row in self.rows for cell in row)
        return [*([marks] if ranked else []), *self.notes]

    @property
    def _rows(self) -> list[tuple[Cell, ...]]:
        """The rows without lines across."""
        return [row for row in self.rows if row]

    def as_json(self) -> list[dict[str, Any]]:
        """An object a row, by the columns' keys: numbers are not rounded, signs and lines across are left out."""
        cells = [[cell.value if isinstance(cell, Marked | Ranked) else cell for cell in row] for row in self._rows]
        return [{column.key: cell for column, cell in zip(self.columns, row, strict=True)} for row in cells]

    def csv(self) -> str:
        """Lines of comma-separated values below the columns' keys: numbers are not rounded, signs and lines across are
        left out, and a missing value is empty."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(column.key for column in self.columns)
        writer.writerows(row.values() for row in self.as_json())
        return out.getvalue()

    def _line(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        padded = []
        for column, cell, width in zip(self.columns, cells, widths, strict=True):
            padding = " " * (width - display_width(cell))
            padded.append(cell + padding if column.align == "left" else padding + cell)
        return "  ".join(padded).rstrip()


def display_width(text: str) -> int:
    """Columns a text takes on a terminal: none for combining marks, two for wide characters."""
    return sum(
        0 if unicodedata.category(char) in _WITHOUT_WIDTH else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )


def escaped(text: str) -> str:
    """A text that Markdown shows as it stands, on one line, hidden characters spelled out."""
    return _MARKDOWN.sub(r"\\\g<0>", spelled_out(text))
