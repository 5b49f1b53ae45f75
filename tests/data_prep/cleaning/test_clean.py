"""The filters: a table of cases in many scripts, a twin that judges pair by pair, conservation, cutting, examples."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.cleaning.clean import DROP_REASONS, NEAR, NUM_HASHES, PAIR, SRC_KEY, TGT_KEY, Cleaned, Cleaner
from data_prep.languages.codes import usual_scripts
from data_prep.languages.scripts import NUMBER_OF_CODE, script_number, script_of
from data_prep.readers.block import Block
from data_prep.readers.sides import SidePair, Unusable
from data_prep.spec.sections import Clean
from data_prep.text.entities import unescape
from data_prep.text.sentence_key import digest, key, near_key
from smoe_ds.data.tidy import tidy
from tests.data_prep.languages.test_codes import SENTENCES

INVALID, LONG = Unusable.INVALID_UTF8, Unusable.TOO_LONG
EVERYTHING_KEPT: dict[str, Any] = {"no_letters": "keep", "copies": "keep", "wrong_script": "keep", "max_ratio": None}


def clean(
    pairs: list[SidePair], languages: tuple[str, str] = ("en", "xx"), *, held_out: bool = False, **settings: Any
) -> tuple[Cleaned, dict[str, Any]]:
    """The pairs that are kept, and the counts."""
    cleaner = Cleaner(Clean.model_validate(settings), languages, 0, held_out=held_out, seed=3)
    return cleaner(Block.of(pairs)), cleaner.counts()


@pytest.mark.parametrize(
    ("pair", "languages", "settings", "reason"),
    [
        ((INVALID, "x"), "en-xx", {}, "invalid_utf8"),
        (("", INVALID), "en-xx", {}, "invalid_utf8"),
        ((LONG, INVALID), "en-xx", {}, "invalid_utf8"),
        ((LONG, ""), "en-xx", {}, "too_long"),
        ((LONG, "x"), "en-xx", {}, "too_long"),
        (("x" * 200, "y"), "en-xx", {"max_characters": 9}, "too_long"),
        (("", "y"), "en-xx", {}, "empty"),
        (("a", " \u200b\u00a0\t"), "en-xx", {}, "empty"),
        (("a b c", "x y z"), "en-xx", {"max_words": 2}, "too_long"),
        (("a  b", "x\u00a0 y"), "en-xx", {"max_words": 2}, ""),
        (("abcd", "efghi"), "en-xx", {"max_characters": 4}, "too_long"),
        (("abcd ", "efgh"), "en-xx", {"max_characters": 4}, ""),
        (("ho\x07use", "ntlo"), "en-xx", {}, ""),
        (("ho\x07use", "ntlo"), "en-xx", {"control_characters": "drop"}, "control_characters"),
        (("house", "ntlo\ufeff"), "en-xx", {"control_characters": "drop"}, "control_characters"),
        (("house\t", "ntlo\u2028"), "en-xx", {"control_characters": "drop"}, ""),
        (("Tom &amp; Jerry", "x y"), "en-xx", {}, ""),
        (("Tom &amp; Jerry", "x y"), "en-xx", {"entities": "unescape"}, ""),
        (("Tom &amp; Jerry", "x y"), "en-xx", {"entities": "drop"}, "entities"),
        (("Tom and Jerry", "x&#39;y"), "en-xx", {"entities": "drop"}, "entities"),
        (("Tom & Jerry; AT&T;", "?a=1&copy=2;"), "en-xx", {"entities": "drop"}, ""),
        (("Tom and Jerry", "&nbsp; &#32;"), "en-xx", {"entities": "unescape"}, "empty"),
        (("Tom & Jerry", "Tom &amp;amp; Jerry"), "en-xx", {"entities": "unescape"}, "copy"),
        (("Tom & Jerry", "Tom &amp; Jerry"), "en-xx", {}, ""),
        (("one", "x y"), "en-xx", {"min_words": 2}, "too_short"),
        (("one two", "x"), "en-xx", {"min_words": 2, "max_ratio": None}, ""),
        (("12.5 %", "abc"), "en-xx", {}, "no_letters"),
        (("abc", "…—!"), "en-xx", {}, "no_letters"),
        (("abc", "१२३"), "en-hi", {}, "no_letters"),
        (("abc", "👍🏽"), "en-xx", {}, "no_letters"),
        (("1 a", "2 б"), "en-ru", {}, ""),
        (("12", "13"), "en-xx", {"no_letters": "keep"}, ""),
        (("abc", "z" * 19), "en-xx", {}, "length_ratio"),
        (("abc", "z" * 18), "en-xx", {}, ""),
        (("abcdefghijklmnopqrs", "漢"), "en-zh", {}, "length_ratio"),
        (("abcdefghijklmnopqr", "漢"), "en-zh", {}, ""),
        (("abcdefghijklmnopqr", "간"), "en-ko", {"max_ratio": 5.0}, "length_ratio"),
        (("abc", "z" * 99), "en-xx", {"max_ratio": None}, ""),
        (("Firefox 3", "Firefox 3"), "en-xx", {}, "copy"),
        (("Firefox 3", "\0Firefox  3"), "en-xx", {}, "copy"),
        (("Firefox 3", "firefox 3"), "en-xx", {}, ""),
        (("Firefox 3", "Firefox 3"), "en-xx", {"copies": "keep"}, ""),
        ((SENTENCES["en"], SENTENCES["ru"]), "en-ru", {}, ""),
        ((SENTENCES["en"], SENTENCES["ru"]), "en-de", {}, "wrong_script"),
        ((SENTENCES["ru"], SENTENCES["en"]), "en-ru", {}, "wrong_script"),
        ((SENTENCES["en"], "Gdje je najbliža ljekarna?"), "en-sr", {}, ""),
        ((SENTENCES["en"], "Где је најближа апотека?"), "en-sr", {}, ""),
        ((SENTENCES["en"], "Где је најближа апотека?"), "eng_Latn-srp_Latn", {}, "wrong_script"),
        ((SENTENCES["en"], SENTENCES["zh"]), "eng-zho_Hant", {}, ""),
        ((SENTENCES["en"], SENTENCES["th"]), "eng-zho_Hant", {}, "wrong_script"),
        (("MySQL JDBC driver class", "MySQL JDBC 驱动程序类"), "en-zh", {}, ""),
        (("The Mozilla Firefox icon", "Mozilla Firefox का"), "en-hi", {}, "wrong_script"),
        (("The Mozilla Firefox icon", "Mozilla Firefox का"), "en-hi", {"min_script_share": 0.05}, ""),
        (("The Mozilla Firefox icon", "Mozilla Firefox का"), "en-hi", {"wrong_script": "keep"}, ""),
        ((SENTENCES["en"], SENTENCES["ka"]), "en-xx", {}, ""),
    ],
)  # fmt: skip
def test_reason(pair: SidePair, languages: str, settings: dict[str, Any], reason: str) -> None:
    first, second = languages.split("-")
    kept, counts = clean([pair], (first, second), **settings)
    assert counts["dropped"] == ({reason: 1} if reason else {})
    assert len(kept.hashes) == len(kept.lines[0]) == len(kept.lines[1]) == (not reason)
    assert list(counts["examples"]) == ([reason] if reason else [])
    held_out, counts = clean([pair], (first, second), held_out=True, **settings)
    sides = [tidy(unescaped(side, settings))[0] if isinstance(side, str) else side for side in pair]
    unusable = {"invalid_utf8", "empty", "too_long"} & {reason} or {"copy"} & {"copy" * (sides[0] == sides[1])}
    assert set(counts["dropped"]) == unusable and len(held_out.hashes) == (not unusable)


def unescaped(text: str, settings: dict[str, Any]) -> str:
    """A text as ``entities`` wants it."""
    return unescape(text.encode()).decode() if settings.get("entities") == "unescape" else text


@pytest.mark.parametrize("held_out", [False, True])
def test_escaped_characters_are_counted_kept_or_replaced(held_out: bool) -> None:
    pairs: list[SidePair] = [("Tom &amp; Jerry", "x &lt;b&gt;&#10;y"), ("plain & simple;", "y"), ("z", "l&apos;eau")]
    kept, counts = clean(pairs, held_out=held_out, max_ratio=None)
    assert kept.lines[0][0] == b"Tom &amp; Jerry" and counts["noticed"] == {"entities": 2}
    kept, counts = clean(pairs, held_out=held_out, entities="unescape", max_ratio=None)
    assert kept.lines == ([b"Tom & Jerry", b"plain & simple;", b"z"], [b"x <b> y", b"y", b"l'eau"])
    assert counts["noticed"] == {"entities_unescaped": 2}
    kept, counts = clean(pairs, held_out=held_out, entities="drop", max_ratio=None)
    assert counts["dropped"] == ({} if held_out else {"entities": 2})
    assert counts["noticed"] == ({"entities": 2} if held_out else {})


def naive_reason(pair: SidePair, languages: tuple[str, str], limits: Clean) -> str:
    """The first filter that applies to a pair, checked one by one."""
    if INVALID in pair:
        return "invalid_utf8"
    if any(side is LONG or len(side) > 20 * limits.max_characters for side in pair):
        return "too_long"
    (src, src_control), (tgt, tgt_control) = (
        tidy(unescaped(str(side), {"entities": limits.entities})) for side in pair
    )
    sides = (src, tgt)
    if not all(sides):
        return "empty"
    if any(len(side) > limits.max_characters or len(side.split(" ")) > limits.max_words for side in sides):
        return "too_long"
    if limits.control_characters == "drop" and (src_control or tgt_control):
        return "control_characters"
    if limits.entities == "drop" and any("&amp;" in str(side) for side in pair):
        return "entities"
    if len(src.split(" ")) < limits.min_words:
        return "too_short"
    if limits.no_letters == "drop" and not all(any(map(str.isalpha, side)) for side in sides):
        return "no_letters"
    widths = sorted(sum(3 if script_of(character) in DENSE else 1 for character in side) for side in sides)
    if limits.max_ratio is not None and widths[1] > limits.max_ratio * widths[0]:
        return "length_ratio"
    if limits.copies == "drop" and src == tgt:
        return "copy"
    if limits.wrong_script == "drop" and any(
        is_foreign(side, language, limits.min_script_share) for side, language in zip(sides, languages, strict=True)
    ):
        return "wrong_script"
    return ""


DENSE = {NUMBER_OF_CODE[code] for code in ("Hani", "Hira", "Kana", "Hang", "Bopo", "Yiii")}


def is_foreign(text: str, language: str, share: float) -> bool:
    own = usual_scripts(language)
    numbers = [number for character in text if (number := script_of(character))]
    total = sum(3 if number in DENSE else 1 for number in numbers)
    return bool(own) and sum(3 if number in DENSE else 1 for number in numbers if number in own) < share * total


words = st.sampled_from(
    [
        "house",
        "Haus",
        "дом",
        "ბინა",
        "漢字",
        "が",
        "12",
        "3.5",
        "...",
        "R&amp;D",
        "&",
        ";",
        " ",
        "\u00a0",
        "\0",
        "é",
        "ß",
        "x" * 9,
    ]
)
sides = st.one_of(st.lists(words, max_size=5).map(" ".join), st.sampled_from([INVALID, LONG, "x" * 401, ""]))
limits = st.fixed_dictionaries({
    "min_words": st.integers(1, 2), "max_words": st.integers(3, 5), "max_characters": st.integers(15, 25),
    "max_ratio": st.sampled_from([None, 1.5, 4.0]), "min_script_share": st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    **{name: st.sampled_from(["drop", "keep"]) for name in ("no_letters", "copies", "wrong_script")},
    "control_characters": st.sampled_from(["drop", "strip"]),
    "entities": st.sampled_from(["keep", "unescape", "drop"]),
})  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(sides, sides), max_size=8), limits, st.sampled_from([("en", "ru"), ("xx", "ja")]))
def test_same_reasons_as_one_by_one(pairs: list[SidePair], given: dict[str, Any], languages: tuple[str, str]) -> None:
    cleaned, counts = clean(pairs, languages, **given)
    reasons = [naive_reason(pair, languages, Clean.model_validate(given)) for pair in pairs]
    assert counts["dropped"] == {reason: reasons.count(reason) for reason in sorted(set(reasons) - {""})}
    assert counts["read"] == len(pairs) == len(cleaned.hashes) + sum(counts["dropped"].values())
    kept = [pair for pair, reason in zip(pairs, reasons, strict=True) if not reason]
    for side in (0, 1):
        assert cleaned.lines[side] == [tidy(unescaped(str(pair[side]), given))[0].encode() for pair in kept]
        known = usual_scripts(languages[side])
        assert cleaned.scripts[:, side].tolist() == [
            0 if known else script_number(tidy(unescaped(str(pair[side]), given))[0]) for pair in kept
        ]
    for reason, found in counts["examples"].items():
        dropped = {pair for pair, other in zip(pairs, reasons, strict=True) if other == reason}
        assert len(found) == min(10, len(dropped))


def test_the_result_does_not_depend_on_how_the_text_is_cut() -> None:
    rng = random.Random(5)
    pool: list[Any] = [*SENTENCES.values(), "", "12", "\0x", "word " * 300, INVALID, "é" * 30_000, *map(str, range(9))]
    pairs = [(rng.choice(pool), rng.choice(pool)) for _ in range(3000)]
    whole, counts = clean(pairs)
    cleaner = Cleaner(Clean(), ("en", "xx"), 0, held_out=False, seed=3)
    cuts = [0, 1, 7, 1500, 1501, 2999, 3000]
    parts = [cleaner(Block.of(pairs[start:stop])) for start, stop in pairwise(cuts)]
    assert cleaner.counts() == counts and len(counts["dropped"]) > 5
    assert np.array_equal(np.concatenate([part.hashes for part in parts]), whole.hashes)
    assert [line for part in parts for line in part.lines[1]] == whole.lines[1]
    assert set(counts["dropped"]) <= set(DROP_REASONS)
    assert cleaner(Block.of([])).hashes.shape == (0, NUM_HASHES)


def test_hashes() -> None:
    pairs: list[SidePair] = [
        ("Page 5 of the book.", "Seite 5 des Buches"),
        ("Seite 5 des Buches", "Page 5 of the book."),
        ("page 5 of the book", "Seite 5 des Buches"),
        ("Page 6 of the book.", "Seite 6 des Buches"),
        ("Page 5 of the book.", "Seite 5 dieses Buches"),
    ]
    hashes = clean(pairs, **EVERYTHING_KEPT)[0].hashes
    for row, pair in enumerate(pairs):
        assert [int(hashes[row, column]).to_bytes(8, "little") for column in (SRC_KEY, TGT_KEY)] == [
            digest(key(str(side))) for side in pair
        ]
    exact, near = hashes[:, PAIR].tolist(), hashes[:, NEAR].tolist()
    assert exact[0] == exact[1] and len(set(exact)) == 4
    assert near[0] == near[1] == near[2] == near[3] != near[4]
    assert near_key(key(str(pairs[0][0]))) == near_key(key(str(pairs[3][0])))
