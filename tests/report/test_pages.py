"""Pages: blocks below each other, figures that line up, lines that stay as they are."""

from __future__ import annotations

import pytest

from smoe_ds.report.pages import Figure, Figures, Lines, Page
from smoe_ds.report.tables import Column, Table
from smoe_ds.report.units import binary_bytes, si

PAGE = Page(
    (
        Lines(("title", "  indented")),
        Figures("memory (GiB)", (Figure("weights", 1.5, ".2f"), Figure("sent", 2048, binary_bytes, "a note"))),
        Table((Column("n", "n"),), ((7,),)),
    )
)


def test_text() -> None:
    assert PAGE.text().splitlines() == [
        "title",
        "  indented",
        "",
        "memory (GiB)",
        "  weights                                 1.50",
        "  sent                                2.00 KiB  a note",
        "",
        "n",
        "-",
        "7",
    ]


def test_markdown() -> None:
    assert PAGE.markdown().splitlines() == [
        *["```text", "title", "  indented", "```", ""],
        *[
            "**memory (GiB)**",
            "",
            "|  |  |  |",
            "|---|---:|---|",
            "| weights | 1.50 |  |",
            "| sent | 2.00 KiB | a note |",
        ],
        *["", "| n |", "|---:|", "| 7 |"],
    ]


def test_a_fence_is_longer_than_what_it_holds() -> None:
    assert Lines(("a ```` b",)).markdown().splitlines() == ["`````text", "a ```` b", "`````"]


@pytest.mark.parametrize(
    ("value", "decimal", "binary"),
    [(0, "0.0", "0.00 B"), (1023, "1.0k", "1023.00 B"), (1024, "1.0k", "1.00 KiB"), (3 * 2**30, "3.2G", "3.00 GiB")],
)
def test_units(value: float, decimal: str, binary: str) -> None:
    assert (si(value), binary_bytes(value)) == (decimal, binary)
