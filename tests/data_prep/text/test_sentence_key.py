"""Tidied text, the keys of leakage, and the script report."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.languages.scripts import script_name, script_number, unusual
from data_prep.text.sentence_key import digest, key, near_key
from smoe_ds.data.tidy import compose, tidy


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
        ("Cafe\u0301 ﬁ 10³ ½ Ⅷ ！", ("Café ﬁ 10³ ½ Ⅷ ！", False)),
        ("ড় ড\u09bc \u1109\u1161\u11a8 \u212b", ("ড\u09bc ড\u09bc 삭 Å", False)),
        ("e\0\u0301", ("é", True)),
        ("\ufa19 \u2329a\u232a \U0002f800", ("\ufa19 \u2329a\u232a \U0002f800", False)),
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


@settings(max_examples=300, deadline=None)
@given(
    st.text(
        st.one_of(
            st.sampled_from("aé\u0301\u0323ড়\u09bcক\u1109\u1161\u11a8Å\u212a\ufa19神\u2329İſ ;\u037e"), st.characters()
        )
    )
)
def test_composing_changes_no_key(text: str) -> None:
    assert key(compose(text)) == key(text)
    assert compose(compose(text)) == compose(text)


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


@pytest.mark.parametrize("code", [0xAD, 0x61C, 0x115F, 0x180B, 0x200B, 0x2060, 0x2800, 0x3164, 0xFFA0, 0xFFFA, 0xE0001])
def test_what_nobody_sees_is_no_text(code: int) -> None:
    assert tidy(f" {chr(code)}{chr(code)} ")[0] == ""
    assert tidy(f"a{chr(code)}")[0] == f"a{chr(code)}"
