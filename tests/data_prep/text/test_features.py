"""Features of many sentences at once against the functions that look at one sentence, over all of Unicode."""

from __future__ import annotations

import unicodedata
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.languages.codes import usual_scripts
from data_prep.languages.scripts import NUMBER_OF_CODE, script_of
from data_prep.readers.side_lines import INNER_END, lines_of
from data_prep.text.characters import characters
from data_prep.text.features import Features, features_of
from data_prep.text.sentence_key import digest, key, near_key
from smoe_ds.data.tidy import compose, tidy

# Characters in which normalisation, case folding, white space and removal meet, and some of every script.
TRICKY = (
    "aAzZ09 .,-\t\n\r\0\x1b\x1c\x7f\x85\u00a0\u00ad\u0130\u0131ßẞſŉǅﬁﬀΣσςΐ\u0345\u0300\u0301\u0323\u0327\u0344ÅÅΩΩ½²№…™"
    "ªµ\u180e\u200b\u200d\u200e\u2028\u3000\ufeff\ufffe\ufdd0\ud800\udfff\U0001ffff\U000e0001\U000e0100\U0001d400"
    "יִשׁ\u05b0\u05bcאבגاَُّ٣قرکेंि\u093c\u0915\u0958\u09c7\u09beকো\u0dd9\u0dcfක\u0e33\u0e01\u0eb3\u0f71\u0f72ཀ"
    "\u1100\u1161\u11a8가각ﾡﾂ\u3131カガｶﾞ\u3099が漢字〇⼀豈한ꦏᏸᎠꭰყᲧ\u10fc𐐀𐐨ⅷⅧ①⑴㍿㎏¼٪۵९๔၅༡＋ｆＦ\u1e9b\u1e9b\u0323´¨¯ﷺ\ufe0f👨\U0001f468"
)
any_character = st.one_of(st.sampled_from(TRICKY), st.characters(codec=None), st.sampled_from("the house 12"))
texts = st.one_of(st.text(any_character, max_size=12), st.text("ab  \t1.", max_size=12))


def look_at(sentences: list[str], *args: Any) -> Features:
    """The features; a line end inside a sentence is a space by then."""
    return features_of(lines_of(sentences).replace(INNER_END, b" "), *args)


def assert_equal_one_by_one(sentences: list[str]) -> None:
    found = look_at(sentences)
    for row, text in enumerate(sentences):
        tidied, control = tidy(text)
        folded = key(tidied)
        assert found.lines[row] == tidied.encode(), repr(text)
        assert found.lengths[row] == len(tidied) and found.words[row] == tidied.count(" ") + 1
        assert found.control[row] == control, repr(text)
        assert int(found.keys[row]).to_bytes(8, "little") == digest(folded), (text, folded)
        assert int(found.near_keys[row]).to_bytes(8, "little") == digest(near_key(folded)), (text, folded)
        assert found.checksums[row] == crc32(tidied.encode())
        assert found.letters[row] == any(character.isalpha() for character in text), repr(text)


@settings(max_examples=400, deadline=None)
@given(st.lists(texts, min_size=1, max_size=6))
def test_equal_to_one_sentence_at_a_time(sentences: list[str]) -> None:
    assert_equal_one_by_one(sentences)


@pytest.mark.parametrize(
    "text",
    [
        "ب\u0651\u064e",  # marks in another order than the canonical one
        "ก\u0e48\u0e38 ก\u0e38\u0e48",
        "ﾡￂ",  # two letters of half width that become one syllable
        "ｶﾞ か\u3099 \u1100\u1161\u11a8",
        "\ufa6c",  # becomes a character above 0xFFFF
        "\U000e0000",  # unassigned, and yet nothing that is seen
        "\U000e0001\U000e0fff",
        "a \u200d b, \u00ad. c\u200b \u2060",  # nothing between two blanks, and at the end
        "“‘(«Quoted»)’”!?",
        "... and so on ...",
        "2 500,75 \u0663\u0664 ⅷ",
        "α\u0345 ΐ ß ﬁ İ ŉ",
        "\U0001f468\u200d\U0001f469 family \U00010400",
    ],
)
def test_cases_that_random_text_rarely_meets(text: str) -> None:
    assert_equal_one_by_one([text, f"x{text}", f"{text} {text}", "plain"])


@settings(max_examples=200, deadline=None)
@given(st.lists(texts, min_size=1, max_size=6), st.sampled_from(["en", "sr", "zh", "ja", "ko", "ar"]),
       st.sampled_from([0.0, 0.25, 0.5, 1.0]))  # fmt: skip
def test_scripts_and_widths_equal_a_count_by_character(sentences: list[str], language: str, share: float) -> None:
    own = usual_scripts(language)
    found = look_at(sentences, own, share)
    for row, text in enumerate(sentences):
        numbers = [script_of(character) for character in compose(text)]
        weights = [3 if number in DENSE else 1 for number in numbers if number]
        in_own = [3 if number in DENSE else 1 for number in numbers if number in own]
        assert found.foreign[row] == (sum(in_own) < share * sum(weights)), repr(text)
        assert found.widths[row] == len(tidy(text)[0]) + 2 * weights.count(3), repr(text)


DENSE = {NUMBER_OF_CODE[code] for code in ("Hani", "Hira", "Kana", "Hang", "Bopo", "Yiii")}


def test_every_character_alone_and_beside_others() -> None:
    """All assigned code points outside the large homogeneous blocks, each alone, and between a letter and a mark."""
    blocks = [range(0x3400, 0x9F00), range(0xAC80, 0xD700), range(0x17000, 0x18C00)]
    codes = [code for code in range(0x20, 0x20000) if not any(code in block for block in blocks)
             and unicodedata.category(chr(code)) not in ("Cn", "Co", "Cs")]  # fmt: skip
    sentences = [f(chr(code)) for code in codes for f in ("{}".format, "e{}\u0301".format)]
    found = look_at(sentences)
    expected = [digest(key(tidy(text)[0])) for text in sentences]
    assert found.keys.astype("<u8").tobytes() == b"".join(expected)
    assert len(sentences) > 40_000


@pytest.mark.parametrize("language", ["", "tlh"])
def test_nothing_is_foreign_to_an_unknown_language(language: str) -> None:
    assert not look_at(["дом", "house", "漢字", "1"], usual_scripts(language)).foreign.any()


def test_the_table_says_of_every_code_point_what_is_found_by_itself() -> None:
    """What is filled in by blocks equals what every character alone gives."""
    found = look_at([chr(code) for code in range(0x3400, 0x33500) if code % 7 == 0])
    texts = [tidy(chr(code))[0] for code in range(0x3400, 0x33500) if code % 7 == 0]
    assert found.keys.astype("<u8").tobytes() == b"".join(digest(key(text)) for text in texts)
    assert found.letters.tolist() == [any(map(str.isalpha, text)) for text in texts]
    assert characters().scripts[0x3400:0x33500:7].tolist() == [
        script_of(chr(code)) for code in range(0x3400, 0x33500, 7)
    ]
