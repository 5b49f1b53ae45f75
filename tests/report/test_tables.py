"""Tables whose columns line up, also with wide and combining characters."""

from __future__ import annotations

from smoe_ds.report.tables import RULE, display_width, text_table


def test_columns_line_up() -> None:
    table = text_table(
        ["direction", "n", "BLEU"], [["eng-nso", 20, 1.239], RULE, ["日本", 1234567, None], ["é", 1, 100.0]]
    )
    assert table.splitlines() == [
        "direction        n    BLEU",
        "---------  -------  ------",
        "eng-nso         20    1.24",
        "---------  -------  ------",
        "日本       1234567       -",
        "é                1  100.00",
    ]


def test_display_width() -> None:
    assert [display_width(text) for text in ("abc", "日本", "e\u0301", "")] == [3, 4, 1, 0]
