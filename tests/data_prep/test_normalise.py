"""Tidied text, the keys of leakage, and the script and swap reports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_prep.normalise import digest, key, tidy
from data_prep.scripts import script_name, script_number, unusual
from data_prep.swapped import count_swapped
from tests.helpers.prepared import sentence, translate, write_lines


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  a \t b\u00a0c\u3000d ", ("a b c d", False)),
        ("a\u2028b\x85c\x0bd", ("a b c d", False)),
        ("ho\0use\x07", ("house", True)),
        ("\ufeffword\U0001ffff", ("word", True)),
        ("\u200b\u200e \u00ad", ("", False)),
        ("می‌خواهم 👨‍👩‍👧", ("می‌خواهم 👨‍👩‍👧", False)),
        ("Cafe\u0301 ﬁ", ("Cafe\u0301 ﬁ", False)),
    ],
)
def test_tidy(text: str, expected: tuple[str, bool]) -> None:
    assert tidy(text) == expected


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("The File, could not be OPENED!", "the file could not be opened"),
        ("Café ﬁne", "CAFE\u0301 FINE."),
        ("STRASSE", "straße"),
        ("“Open” — file…", "open file"),
        ("ｆｕｌｌ width", "Full-Width"),
        ("\u202bSoft\u00adware\u202c", "software"),
    ],
)
def test_same_sentence(first: str, second: str) -> None:
    assert key(first) == key(second) and digest(key(first)) == digest(key(second))


@pytest.mark.parametrize(
    ("first", "second"),
    [("page 5", "page 6"), ("कि", "का"), ("resume", "résumé"), ("...", "!!!"), ("a b", "ab"), ("x", "")],
)
def test_other_sentence(first: str, second: str) -> None:
    assert key(first) != key(second) and digest(key(first)) != digest(key(second))


def test_scripts() -> None:
    texts = {
        "LATIN": "Größe 12",
        "CYRILLIC": "Дом 5 km",
        "CJK": "続けるにはキー",
        "ARABIC": "صدر",
        "DEVANAGARI": "नमस्ते",
    }
    assert {script_name(script_number(text)) for text in texts.values()} == set(texts)
    assert all(script_name(script_number(text)) == name for name, text in texts.items())
    assert script_number("123 !?") == script_number("") == script_number("١٢٣ …") == 0


def test_unusual_is_what_most_are_not() -> None:
    assert unusual([1, 1, 2, 0, 1, 3]).tolist() == [False, False, True, False, False, True]
    assert unusual(np.zeros(3, int)).tolist() == [False] * 3 and unusual([]).shape == (0,)


def test_exchanged_sides_are_counted(tmp_path: Path) -> None:
    pairs = [(sentence(number), translate(sentence(number), "nso")) for number in range(300)]
    swapped = {10, 77, 123, 299}
    pairs = [(b, a) if number in swapped else (a, b) for number, (a, b) in enumerate(pairs)]
    pairs += [("Firefox 3.0", "Firefox 3.0"), ("3", "3")]
    for name, side in (("src", 0), ("tgt", 1)):
        write_lines(tmp_path / name, [pair[side] for pair in pairs])
    assert count_swapped(tmp_path / "src", tmp_path / "tgt") == len(swapped)
