"""LaTeX of tables and pages: every sign is set as it stands, and the best numbers are marked."""

from __future__ import annotations

import re

import pytest

from smoe_ds.report.latex import latex_escaped
from smoe_ds.report.pages import Figure, Figures, Heading, Lines, Page
from smoe_ds.report.tables import RULE, Column, Marked, Ranked, Table

RANKED = Table(
    (Column("run", "run", "left"), Column("BLEU", "bleu", format=".2f"), Column("RC", "rc", format=".1f")),
    (
        ("a_b", Ranked(1.5, 1), Marked(2.0, "~")),
        RULE,
        ("50%", Ranked(1.25, 2), None),
        ("x", Ranked(0.5), 1.0),
    ),
    ("a note",),
)


def test_a_table() -> None:
    assert RANKED.latex().splitlines() == [
        r"\begin{tabular}{lrr}",
        r"\toprule",
        r"run & BLEU & RC \\",
        r"\midrule",
        r"a\_b & \textbf{1.50} & 2.0 \textasciitilde{} \\",
        r"\midrule",
        r"50\% & \underline{1.25} & - \\",
        r"x & 0.50 & 1.0 \\",
        r"\bottomrule",
        r"\end{tabular}",
        "% bold: best, underlined: second best",
        "% a note",
    ]


def test_marks_of_ranked_numbers_in_text_and_markdown() -> None:
    assert RANKED.text().splitlines() == [
        "run    BLEU     RC",
        "---  ------  -----",
        "a_b  1.50 *  2.0 ~",
        "---  ------  -----",
        "50%  1.25 +      -",
        "x    0.50      1.0",
        "* best, + second best",
        "a note",
    ]
    assert RANKED.markdown().splitlines()[2:] == [
        r"| a\_b | **1.50** | 2.0 \~ |",
        "| 50% | _1.25_ | - |",
        "| x | 0.50 | 1.0 |",
        *["", "bold: best, italics: second best", "", "a note"],
    ]
    assert [row["bleu"] for row in RANKED.as_json()] == [1.5, 1.25, 0.5]


@pytest.mark.parametrize(
    ("values", "places"),
    [
        ([1.0, 3.0, 2.0], [0, 1, 2]),
        ([3.0, 3.0, 2.0, 1.0], [1, 1, 2, 0]),
        ([1.0], [0]),
        ([None, 1.0], [None, 0]),
        ([2.0, None, 2.0], [1, None, 1]),
        ([], []),
    ],
)
def test_ranks(values: list[float | None], places: list[int | None]) -> None:
    assert [one and one.place for one in Ranked.among(values)] == places
    assert [one and one.value for one in Ranked.among(values)] == values


def test_no_sign_acts() -> None:
    text = latex_escaped("\\end{x} 100% & $a_b^2 #1 ~ <i> | ± 1 +- 2 \x1b 日本")
    assert text == (
        r"\textbackslash{}end\{x\} 100\% \& \$a\_b\textasciicircum{}2 \#1 \textasciitilde{} "
        r"\textless{}i\textgreater{} \textbar{} ± 1 $\pm$ 2 \textbackslash{}x1b 日本"
    )
    bare = re.sub(r"\\text\w+\{\}|\\[&%$#_{}]|\$\\pm\$", "", text)
    assert not re.search(r"[\\&%$#_{}~^]", bare)


def test_a_page() -> None:
    page = Page((Heading("a\nb"), Lines(("日本 \\", "")), Figures("sizes", (Figure("n", 3, "d"),))))
    lines = page.latex().splitlines()
    assert lines[:6] == ["% a\\nb", "", "% 日本 \\", "%", "", "% sizes"]
    assert r"n & 3 &  \\" in lines
    assert page.markdown().splitlines()[0] == r"**a\\nb**"
