"""Tidied text, the keys of leakage, and the script and swap reports."""

from __future__ import annotations

import math
import random
from collections import Counter

import numpy as np
import pytest

from data_prep.normalise import digest, key, near_key, tidy
from data_prep.readers.side_lines import lines_of
from data_prep.scripts import script_name, script_number, unusual
from data_prep.swapped import count_swapped
from tests.helpers.prepared import sentence, translate


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  a \t b\u00a0c\u3000d ", ("a b c d", False)),
        ("a\u2028b\x85c\x0bd", ("a b c d", False)),
        ("ho\0use\x07", ("house", True)),
        ("\ufeffword\U0001ffff", ("word", True)),
        ("\u200b\u200e \u00ad", ("", False)),
        ("half \ud83d of a pair", ("half of a pair", True)),
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
        ("Send an e-mail.", "Send an e mail"),
        ("Send an e-mail.", "Send an email"),
        ("Don't set as Wall&paper…", "dont Set As Wallpaper"),
        ("ice cream", "icecream"),
        ("l’été , déjà", "L 'été, déjà"),
        ("東京 、大阪", "東京、大 阪"),
    ],
)
def test_same_sentence(first: str, second: str) -> None:
    assert key(first) == key(second) and digest(key(first)) == digest(key(second))


@pytest.mark.parametrize(
    ("first", "second"),
    [("page 5", "page 6"), ("कि", "का"), ("resume", "résumé"), ("...", "!!!"), ("a b", "ba"), ("x", "")],
)
def test_other_sentence(first: str, second: str) -> None:
    assert key(first) != key(second) and digest(key(first)) != digest(key(second))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Page 5 of 12", "page 1,234 of 7!"),
        ("3.5 GB", "17 GB"),
        ("٣ صفحات", "3 صفحات"),
        ("٣ صفحات", "١٢ صفحات"),
        ("Seite ３", "seite 12"),
    ],
)
def test_nearly_the_same_sentence(first: str, second: str) -> None:
    assert near_key(key(first)) == near_key(key(second))


@pytest.mark.parametrize(
    ("first", "second"), [("page 5", "page x"), ("5 a 6", "5 6"), ("page", "page 5"), ("a5", "5a")]
)
def test_not_nearly_the_same_sentence(first: str, second: str) -> None:
    assert near_key(key(first)) != near_key(key(second))


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


def test_exchanged_sides_are_counted() -> None:
    pairs = [(sentence(number), translate(sentence(number), "nso")) for number in range(300)]
    swapped = {10, 77, 123, 299}
    pairs = [(b, a) if number in swapped else (a, b) for number, (a, b) in enumerate(pairs)]
    pairs += [("Firefox 3.0", "Firefox 3.0"), ("3", "3")]
    assert swapped_of(pairs) == len(swapped)


def swapped_of(pairs: list[tuple[str, str]]) -> int:
    return count_swapped(*(lines_of([pair[side] for pair in pairs]) for side in (0, 1)))


def naive_swapped(pairs: list[tuple[str, str]]) -> int:
    """Exchanged pairs, found with dictionaries of words."""
    lines = [tuple(side.lower().split() for side in pair) for pair in pairs]
    only = [tuple([w for w in line[side] if w not in line[1 - side]] for side in (0, 1)) for line in lines]
    counts = [Counter(word for line in only for word in line[side]) for side in (0, 1)]

    def evidence(line: tuple[list[str], ...], side: int) -> float:
        return sum(
            math.log(max(counts[side][word] - 1, 0) + 0.5) - math.log(counts[1 - side][word] + 0.5)
            for word in line[side]
        )

    return sum(all(evidence(line, side) < -math.log(100) for side in (0, 1)) for line in only)


def test_exchanged_sides_equal_a_count_with_dictionaries() -> None:
    """Names that one language has on its side only, and that some exchanged lines have on both."""
    rng = random.Random(3)
    pairs = []
    for number in range(400):
        src, tgt = sentence(number), translate(sentence(number), "nso")
        if number % 3 == 0:
            src, tgt = f"{src} Opel Ford Audi", tgt
        if number % 5 == 0:
            src, tgt = f"{src} Opel Ford Audi", f"{tgt} Opel Ford Audi"
        pairs.append((tgt, src) if rng.random() < 0.15 else (src, tgt))
    swapped = swapped_of(pairs)
    assert swapped == naive_swapped(pairs) > 30
    assert swapped_of([]) == swapped_of([("a", "")]) == 0


def test_words_on_both_sides_of_a_line_say_nothing() -> None:
    """Else the line would count: each side repeats a word of the other language more often than one of its own."""
    pairs = [("one here", "two there")] * 50 + [("two two two one", "one one one two")]
    assert swapped_of(pairs) == naive_swapped(pairs) == 0
    pairs[-1] = ("two two two", "one one one")
    assert swapped_of(pairs) == naive_swapped(pairs) == 1
