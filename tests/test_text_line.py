"""Text of users on one line: what is spelled out, and that shells read commands as the words they were made of."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import unicodedata

import pytest

from smoe_ds.errors import ConfigError, DataError
from smoe_ds.report.pages import Lines
from smoe_ds.report.tables import Column, Table
from smoe_ds.text_line import command_line, first_line, hidden_in, spelled_out, unprintable_spelled_out

LINE_ENDS = [chr(code) for code in range(sys.maxunicode + 1) if len(f"a{chr(code)}b".splitlines()) == 2]
BIDI = [
    chr(code)
    for code in range(sys.maxunicode + 1)
    if unicodedata.bidirectional(chr(code)) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
]


@pytest.mark.parametrize("character", [*LINE_ENDS, *BIDI, "\x00", "\x1b", "\x9b", "\x7f", "\ud800"], ids=ascii)
def test_every_character_that_breaks_or_disguises_a_line_is_spelled_out(character: str) -> None:
    text = spelled_out(f"a{character}b")
    assert text.isprintable() and text.startswith("a\\") and text.endswith("b")
    assert hidden_in(f"a{character}b") == character
    assert spelled_out(f"a{character}b", keep=character) == f"a{character}b"


@pytest.mark.parametrize("text", ["plain", "tše ò", "می\u200cروم", "क्\u200dष", "a\u00a0b", "日本", "\U0001f600"])
def test_text_that_only_is_what_it_shows_stays(text: str) -> None:
    assert spelled_out(text) == text and hidden_in(text) is None


def test_errors_show_names_without_their_hidden_characters() -> None:
    assert str(DataError("a\x1b[2Jb\u2028c\nd")) == "a\\x1b[2Jb\\u2028c\nd"
    assert ConfigError(["one\nline", "two"]).problems == ["one\\nline", "two"]
    assert str(ConfigError("one\ntwo\x85")) == "one\ntwo\\x85"


def test_a_row_of_a_table_is_a_line() -> None:
    name = "eng\n| x | 9 |\u2028\x1b[1A"
    table = Table((Column("direction", "direction", "left"), Column("n", "n")), ((name, 1),), (f"note {name}",))
    assert len(table.text().splitlines()) == 4 and "\x1b" not in table.text()
    assert table.markdown().splitlines()[2] == "| eng\\\\n\\| x \\| 9 \\|\\\\u2028\\\\x1b\\[1A | 1 |"
    assert table.as_json() == [{"direction": name, "n": 1}]
    assert len(Lines((name, "two")).text().splitlines()) == 2


@pytest.mark.parametrize(
    ("text", "line"), [("", ""), (" \n", ""), ("one\ntwo", "one"), ("\r\none\r\ntwo", "one"), ("a\u2028b", "a\u2028b")]
)
def test_first_line(text: str, line: str) -> None:
    assert first_line(text) == line


def test_a_shell_reads_a_command_as_its_words() -> None:
    source = random.Random(5)
    alphabet = "ab7 '\"\\$`!#;&|<>()*?~\n\t\x1b\x85é\u2028\u202e\udc80ж=-"
    words = ["".join(source.choices(alphabet, k=source.randint(0, 9))) for _ in range(400)]
    line = command_line(words)
    assert line.isprintable()
    script = f"printf '%s\\0' {line}\n".encode()
    done = subprocess.run(["bash"], input=script, capture_output=True, env={"PATH": os.environ["PATH"]}, check=True)
    assert done.stdout.split(b"\0")[:-1] == [word.encode("utf-8", "surrogateescape") for word in words]


def test_joiners_are_spelled_out_where_characters_are_looked_at() -> None:
    assert unprintable_spelled_out("a\u200db\u00e9\n") == "a\\u200db\u00e9\\n"
    assert spelled_out("a\u200db") == "a\u200db"
