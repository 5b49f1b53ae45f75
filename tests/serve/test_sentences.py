"""Sentences of a text: found in many scripts, nothing lost between them, put together again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smoe_ds.data.tidy import REMOVED, VISIBLE, tidy

pytest.importorskip("sentencex")

from smoe_ds.serve.sentences import split_text


@pytest.mark.parametrize(
    ("language", "text", "sentences"),
    [
        ("eng", "Dr. Smith paid 3.5 rand. He left!", ["Dr. Smith paid 3.5 rand.", "He left!"]),
        ("deu", "Am 3. Mai kam z.B. Frau Meier. Sie ging.", ["Am 3. Mai kam z.B. Frau Meier.", "Sie ging."]),
        (None, "Is it? Yes... It is.", ["Is it?", "Yes...", "It is."]),
        ("nso", "Dr. Mokoena o ile gae. O re: Ee!", ["Dr. Mokoena o ile gae.", "O re: Ee!"]),
        ("jpn", "私は学生です。東京に住んでいます\uff01はい", ["私は学生です。", "東京に住んでいます\uff01", "はい"]),
        ("zho", "你好吗\uff1f我很好。", ["你好吗\uff1f", "我很好。"]),
        ("hin", "यह एक वाक्य है। यह दूसरा है।", ["यह एक वाक्य है।", "यह दूसरा है।"]),
        ("ara", "هل أنت بخير؟ نعم. شكرا!", ["هل أنت بخير؟", "نعم.", "شكرا!"]),
        ("xyz", "One. Two.", ["One.", "Two."]),
        ("eng", "A line\nthat goes on.\r\n\r\nA paragraph.\rEnd", ["A line", "that goes on.", "A paragraph.", "End"]),
        ("eng", " \n\u200b\n", []),
    ],
)
def test_sentences_are_found(language: str | None, text: str, sentences: list[str]) -> None:
    found = split_text(text, language)
    assert list(found.sentences) == sentences
    assert found.joined(found.sentences) == text


def test_lines_alone() -> None:
    found = split_text("One. Two.\n\n  Three. Four.", sentences=False)
    assert found.sentences == ("One. Two.", "Three. Four.")
    assert found.joined(["a", "b"]) == "a\n\n  b"


@pytest.mark.parametrize(
    ("text", "translations", "joined"),
    [
        ("One. Two.\n\n  End.\n", ["x", "y", "z"], "x y\n\n  z\n"),
        ("你好。再见。\n谢谢。", ["Hello.", "Bye.", "Thanks."], "Hello. Bye.\nThanks."),
        ("Hello. Bye.", ["你好。", "再见。"], "你好。再见。"),
        ("Hello! Bye.", ["你好!", "再见。"], "你好!再见。"),
        ("Hello.   Bye.", ["你好。", "Bye."], "你好。   Bye."),
        ("One. Two.", ["", ""], " "),
    ],
)
def test_translations_take_the_place_of_sentences(text: str, translations: list[str], joined: str) -> None:
    assert split_text(text).joined(translations) == joined


@given(st.text(st.sampled_from("ab. !?\n\r\t。।\u200b\ud800\x00(\"'é"), max_size=60), st.booleans())
def test_nothing_is_lost(text: str, sentences: bool) -> None:
    found = split_text(text, "eng", sentences=sentences)
    assert len(found.gaps) == len(found.sentences) + 1
    put = [part for pair in zip(found.gaps, (*found.sentences, ""), strict=True) for part in pair]
    assert "".join(put) == REMOVED.sub("", text)
    assert not any(VISIBLE.search(gap) for gap in found.gaps)
    assert all(VISIBLE.search(one) and one == one.strip() and "\n" not in one for one in found.sentences)
    if not sentences:
        lines = [tidy(line)[0] for line in REMOVED.sub("", text).replace("\r", "\n").split("\n")]
        assert [tidy(one)[0] for one in found.sentences] == [line for line in lines if line]
