"""Characters that a given vocabulary without bytes loses are counted by language and named."""

from __future__ import annotations

import io
import json
from collections import Counter

import pytest
import sentencepiece

from data_prep.report.text import format_report
from data_prep.vocabulary.lost import MAX_CHARACTERS, lost_characters, most_lost
from smoe_ds.data.corpus import Corpus
from smoe_ds.data.tokenizer import UNK_ID, Tokenizer
from tests.helpers.prepared import prepare_spec, sentence, small_spec, write_lines

SIZE = 200
LOST = "ŋ", "šž", "中文字", "\u202e", "\U0001f600"  # the marks go with every n-th sentence


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """Of English text, as an imported one is: no bytes."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([sentence(number) for number in range(SIZE)]), model_writer=model, vocab_size=120,
        hard_vocab_limit=False, pad_id=0, bos_id=1, eos_id=2, unk_id=3, control_symbols=["<2eng>", "<2nso>"],
        normalization_rule_name="identity", num_threads=1, minloglevel=2,
    )  # fmt: skip
    file = tmp_path_factory.mktemp("given") / "given.model"
    file.write_bytes(model.getvalue())
    return Tokenizer(file)


def foreign(number: int) -> str:
    """A sentence with what the vocabulary lacks at its end, in a word and by itself."""
    marks = [mark for place, mark in enumerate(LOST, 1) if number % place == 0]
    return f"{sentence(number)} {' '.join(marks)} a{marks[0]}b"


def naive(tokenizer: Tokenizer, lines: list[str]) -> Counter[str]:
    """Characters that are in no piece."""
    known = {character for piece, kind in tokenizer.vocabulary() if kind == "normal" for character in piece}
    return Counter(c for line in lines for c in line if c not in known and not c.isspace())


@pytest.fixture(scope="module")
def corpus(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("lost")
    spec = small_spec(folder, languages=("nso",), size=SIZE)
    source = {
        "src": write_lines(folder / "a", [sentence(number) for number in range(SIZE)]),
        "tgt": write_lines(folder / "b", [foreign(number) for number in range(SIZE)]),
    }
    spec["pairs"] = [{"pair": "eng-nso", "train": [source]}]
    spec["clean"] = {"near_duplicates": "keep", "max_ratio": None}
    spec["sentencepiece"] = {"model": str(tokenizer.model_file)}
    return prepare_spec(folder, spec, piece_size=37)


def test_the_counts_are_those_of_a_look_at_every_character(tokenizer: Tokenizer) -> None:
    lines = [foreign(number) for number in range(60)] + [sentence(0), "", "中"]
    rows = tokenizer.encode_rows(lines)
    assert (rows.values == UNK_ID).any()
    found = lost_characters(tokenizer, [line.encode() for line in lines], rows)
    assert found == naive(tokenizer, lines)
    assert set(found) >= set("".join(LOST))


def test_the_report_names_them(corpus: Corpus, tokenizer: Tokenizer) -> None:
    figures = corpus.manifest["vocabulary"]["languages"]
    expected = naive(tokenizer, [foreign(number) for number in range(SIZE)])
    assert figures["eng"]["lost"] == 0 and figures["eng"]["lost_characters"] == []
    assert figures["nso"]["compared"] == SIZE and figures["nso"]["lost"] == expected.total()
    listed = {one["code_point"]: one["count"] for one in figures["nso"]["lost_characters"]}
    assert listed == {f"U+{ord(character):04X}": count for character, count in expected.items()}
    first, mark = (
        {"character": shown, "code_point": code, "count": expected[character]}
        for character, shown, code in (("ŋ", "ŋ", "U+014B"), ("\u202e", "\\u202e", "U+202E"))
    )
    assert figures["nso"]["lost_characters"][0] == first and mark in figures["nso"]["lost_characters"]
    report = json.loads((corpus.path / "report.json").read_text(encoding="utf-8"))
    assert report["vocabulary"]["languages"] == figures
    (line,) = [line for line in format_report(corpus.manifest).splitlines() if "that the vocabulary loses" in line]
    assert line.startswith(
        f"characters of nso that the vocabulary loses, {expected.total():,} in the {SIZE} sentences looked at: "
        f"ŋ (U+014B) {expected['ŋ']:,}, "
    )
    assert "\\u202e (U+202E)" in line and "\u202e" not in line and "others" not in line


def test_the_rarest_are_counted_together() -> None:
    counts = {chr(0x4E00 + number): 1 + number for number in range(MAX_CHARACTERS + 3)}
    named = most_lost(counts)
    assert [one["count"] for one in named] == sorted(counts.values(), reverse=True)[:MAX_CHARACTERS]
    figures = {"lost": sum(counts.values()), "lost_characters": named, "compared": 9, "changed": 9}
    languages = {"x": figures | dict.fromkeys(_OTHER_FIGURES) | {"text": "train"}}
    manifest = {"report": {}, "splits": {}, "warnings": [], "vocabulary": {"languages": languages}}
    assert format_report(manifest).endswith(", others 6")


_OTHER_FIGURES = (
    "characters_per_token", "tokens_per_sentence", "character_coverage", "token_coverage", "vocabulary_used",
)  # fmt: skip
