"""What a command prints of a result: tables, figures and lines one below the other, data until they are rendered."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from smoe_ds.report.latex import comments
from smoe_ds.report.tables import Column, Table, escaped
from smoe_ds.text_line import spelled_out


class Block(Protocol):
    """A part of a page."""

    def text(self) -> str:
        """Lines for a terminal."""

    def markdown(self) -> str:
        """The same in Markdown."""

    def latex(self) -> str:
        """The same in LaTeX, to be put into a document."""


@dataclass(frozen=True)
class Page:
    """Blocks with a blank line between two of them."""

    blocks: tuple[Block, ...]

    def text(self) -> str:
        """Lines for a terminal, without a line feed at the end."""
        return "\n\n".join(block.text() for block in self.blocks)

    def markdown(self) -> str:
        """The same in Markdown."""
        return "\n\n".join(block.markdown() for block in self.blocks)

    def latex(self) -> str:
        """The same in LaTeX, to be put into a document; tables need the package booktabs."""
        return "\n\n".join(block.latex() for block in self.blocks)


@dataclass(frozen=True)
class Lines:
    """Lines that are shown as they are, spaces included; only hidden characters are spelled out."""

    lines: tuple[str, ...]

    def text(self) -> str:
        return "\n".join(map(spelled_out, self.lines))

    def markdown(self) -> str:
        """A code block, whose fence is longer than any run of backticks in the lines."""
        longest = max((len(run) for run in re.findall("`+", self.text())), default=0)
        fence = "`" * max(3, longest + 1)
        return f"{fence}text\n{self.text()}\n{fence}"

    def latex(self) -> str:
        """Comments: they may be in any script."""
        return comments(self.lines)


@dataclass(frozen=True)
class Heading:
    """A line above a block."""

    title: str

    def text(self) -> str:
        return spelled_out(self.title)

    def markdown(self) -> str:
        return f"**{escaped(self.title)}**"

    def latex(self) -> str:
        return comments([self.title])


@dataclass(frozen=True)
class Figure:
    """A named number.

    Attributes:
        name: what it is.
        value: the number.
        format: a format specification, or a function that writes the number.
        note: a remark behind it.
    """

    name: str
    value: float
    format: str | Callable[[float], str] = ""
    note: str = ""


@dataclass(frozen=True)
class Figures:
    """Figures below a heading. In text all such blocks have columns of the same width, so that a page lines up."""

    heading: str
    figures: tuple[Figure, ...]

    def text(self) -> str:
        lines = [f"  {name:<28}{value:>16}  {note}".rstrip() for name, value, note in self.table().texts()]
        return "\n".join([self.heading, *lines])

    def markdown(self) -> str:
        return f"**{escaped(self.heading)}**\n\n{self.table().markdown()}"

    def latex(self) -> str:
        return f"{comments([self.heading])}\n{self.table().latex()}"

    def table(self) -> Table:
        """Name, value and note of each figure; values are written out, since each has a format of its own."""
        columns = (Column("", "name", "left"), Column("", "value"), Column("", "note", "left"))
        return Table(columns, tuple((one.name, _written(one), one.note) for one in self.figures))


def _written(figure: Figure) -> str:
    return Column(figure.name, figure.name, format=figure.format).text(figure.value)
