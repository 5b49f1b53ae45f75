"""A table as HTML, and tables whose cells are coloured by their numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from smoe_ds.report.token_view.view import LEVELS


@dataclass(frozen=True)
class HeatCell:
    """A number and its colour, from 0 to `LEVELS` - 1."""

    text: str
    level: int


@dataclass(frozen=True)
class HeatTable:
    """Rows and columns of coloured numbers.

    Attributes:
        title: what it shows.
        corner: the header above the names of rows.
        columns: their names.
        rows: by name; a cell is None where there is no number.
        groups: names of groups of neighbouring columns, and how many belong to each; none: no groups.
    """

    title: str
    corner: str
    columns: tuple[str, ...]
    rows: Mapping[str, Sequence[HeatCell | None]]
    groups: tuple[tuple[str, int], ...] = ()


def heat_table(
    title: str,
    corner: str,
    columns: Sequence[str],
    values: Mapping[str, Sequence[float | None]],
    form: str,
    groups: Sequence[tuple[str, int]] = (),
) -> HeatTable:
    """Colours numbers between the lowest and the highest one of the table.

    Args:
        title: what it shows.
        corner: the header above the names of rows.
        columns: their names.
        values: by row, one a column; None where there is no number.
        form: how numbers are written, such as ``".2f"``.
        groups: see `HeatTable`.
    """
    known = [value for row in values.values() for value in row if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)

    def cell(value: float | None) -> HeatCell | None:
        if value is None:
            return None
        return HeatCell(format(value, form), round((value - low) / (high - low or 1.0) * (LEVELS - 1)))

    rows = {name: [cell(value) for value in row] for name, row in values.items()}
    return HeatTable(title, corner, tuple(columns), rows, tuple(groups))
