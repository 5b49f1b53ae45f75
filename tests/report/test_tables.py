"""Tables: columns that line up whatever the characters, Markdown that shows what was meant, JSON that loses nothing."""

from __future__ import annotations

import csv
import io
import json
import random

import pytest

from smoe_ds.report.tables import RULE, Column, Marked, Table, display_width, escaped

WIDTHS = {"a": 1, "é": 1, "日": 2, "ㄱ": 2, "Ａ": 2, "\u0301": 0, "\u0e31": 0, "\u200d": 0, "ÿ": 1}
COLUMNS = (
    Column("direction", "direction", "left"),
    Column("n", "sentences", format=","),
    Column("BLEU", "bleu", format=".2f"),
)
TABLE = Table(
    COLUMNS,
    (
        ("eng-nso", 20, 1.239),
        RULE,
        ("日本", 1234567, None),
        ("e\u0301", 1, Marked(100.0, "*")),
        ("x", 2, Marked(3, "")),
    ),
    ("* a note",),
)


def test_columns_line_up() -> None:
    assert TABLE.text().splitlines() == [
        "direction          n      BLEU",
        "---------  ---------  --------",
        "eng-nso           20      1.24",
        "---------  ---------  --------",
        "日本       1,234,567         -",
        "e\u0301                  1  100.00 *",
        "x                  2      3.00",
        "* a note",
    ]


def test_without_a_line_below_the_header() -> None:
    table = Table((Column("", "mark", "left"), Column("name", "name", "left")), (("best", "x"), ("", "longer")))
    assert table.text(underlined=False).splitlines() == ["      name", "best  x", "      longer"]


def test_markdown() -> None:
    assert TABLE.markdown().splitlines() == [
        "| direction | n | BLEU |",
        "|---|---:|---:|",
        "| eng-nso | 20 | 1.24 |",
        "| 日本 | 1,234,567 | - |",
        "| e\u0301 | 1 | 100.00 \\* |",
        "| x | 2 | 3.00 |",
        "",
        "\\* a note",
    ]


def test_rows_of_json() -> None:
    rows = json.loads(json.dumps(TABLE.as_json()))
    assert rows == [
        {"direction": "eng-nso", "sentences": 20, "bleu": 1.239},
        {"direction": "日本", "sentences": 1234567, "bleu": None},
        {"direction": "e\u0301", "sentences": 1, "bleu": 100.0},
        {"direction": "x", "sentences": 2, "bleu": 3},
    ]


@pytest.mark.parametrize("seed", range(20))
def test_any_characters_line_up(seed: int) -> None:
    """Every cell begins and ends where a naive count of terminal columns puts it."""
    rng = random.Random(seed)
    columns = tuple(Column(_word(rng), str(i), rng.choice(["left", "right"])) for i in range(4))
    rows = tuple(tuple(_word(rng) for _ in columns) for _ in range(5))
    lines = Table(columns, rows).text().splitlines()
    cells = [[column.header for column in columns], *rows]
    widths = [max(_naive_width(row[i]) for row in cells) for i in range(4)]
    assert lines.pop(1) == "  ".join("-" * width for width in widths)
    for line, row in zip(lines, cells, strict=True):
        start = 0
        for column, width, cell in zip(columns, widths, row, strict=True):
            padding = width - _naive_width(cell)
            begin = start + (padding if column.align == "right" else 0)
            assert _between(line, begin, begin + _naive_width(cell)) == cell
            start += width + 2


def _word(rng: random.Random) -> str:
    return "x" + "".join(rng.choices(list(WIDTHS), k=rng.randrange(6)))


def _naive_width(text: str) -> int:
    return sum(WIDTHS.get(char, 1) for char in text)


def _between(line: str, begin: int, end: int) -> str:
    """The characters of a line on these terminal columns, with the marks that stand on them."""
    found, place = "", 0
    for char in line:
        width = WIDTHS.get(char, 1)
        if begin <= place < end or (not width and begin < place <= end):
            found += char
        place += width
    return found


@pytest.mark.parametrize("text", ["a|b", "`code`", "*a* _b_ ~c~", "[x](y)", "<b>", "\\", "two\nlines"])
def test_markdown_shows_a_text_as_it_stands(text: str) -> None:
    """A naive reader of Markdown, for which a backslash takes the meaning of what follows it."""
    shown, signs = "", ""
    characters = iter(escaped(text))
    for char in characters:
        if char == "\\":
            shown += next(characters)
        else:
            shown, signs = shown + char, signs + char
    assert shown == text.replace("\n", r"\n")
    assert not set(signs) & set("|`*_~[]<\\\n")


def test_a_function_may_write_a_number() -> None:
    column = Column("size", "bytes", format=lambda size: f"{size / 1024:.0f} KiB", missing="")
    assert [column.text(cell) for cell in (2048, None, "as it is", Marked(1024, "!"))] == [
        *["2 KiB", "", "as it is", "1 KiB !"],
    ]


@pytest.mark.parametrize(
    ("columns", "rows", "message"),
    [(COLUMNS, ((1, 2),), "expected 3 cells"), ((Column("a", "x"), Column("b", "x")), (), "the same key")],
)
def test_what_is_no_table(columns: tuple[Column, ...], rows: tuple[tuple[int, ...], ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Table(columns, rows)


def test_display_width() -> None:
    assert [display_width(text) for text in ("abc", "日本", "e\u0301", "", "ก\u0e31", "\u200b")] == [3, 4, 1, 0, 1, 0]


def test_comma_separated_values_lose_nothing() -> None:
    table = Table(COLUMNS, (('a, "b"\nc', 1234, 1 / 3), RULE, ("ä", None, Marked(2.5, "*"))))
    text = table.csv()
    assert text.startswith("direction,sentences,bleu\n")
    assert list(csv.reader(io.StringIO(text)))[1:] == [['a, "b"\nc', "1234", str(1 / 3)], ["ä", "", "2.5"]]
