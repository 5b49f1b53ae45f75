"""Figures of a vocabulary from counts of pieces, against a count over the text itself."""

from __future__ import annotations

import io
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import sentencepiece

from data_prep.report.text import vocabulary_rows, warnings_of
from data_prep.vocabulary.coverage import PieceTable, coverage, language_coverage
from smoe_ds.data.corpus import Corpus
from smoe_ds.data.tokenizer import Tokenizer
from tests.helpers.prepared import prepare_spec, sentence, small_corpus, small_spec, write_lines


def test_a_given_vocabulary_that_loses_characters_is_told_apart() -> None:
    """One that was imported may have no bytes to spell a character that it lacks."""
    figures = {"x": {"character_coverage": 0.9, "changed": 0}}
    base = {"pieces": 1, "requested": 1, "given": "a.model", "languages": figures}
    spelled, lost = (list(warnings_of({}, base | {"byte_fallback": has})) for has in (True, False))
    assert spelled[0] == (
        "vocabulary: 10.0% of the characters of x are spelled in bytes; name another sentencepiece.model, or none to "
        "train one"
    )
    assert "of x are lost, since the vocabulary has no bytes; name another" in lost[0]


def naive(tokenizer: Tokenizer, sentences: list[str]) -> dict[str, float]:
    """The same figures, by looking at text and pieces one by one."""
    vocabulary = tokenizer.vocabulary()
    pieces = [vocabulary[index] for text in sentences for index in tokenizer.encode(text)]
    characters = sum(len(" ".join(unicodedata.normalize("NFC", text).split())) for text in sentences)
    spelled = bytes(int(piece[1:-1], 16) for piece, kind in pieces if kind == "byte")
    in_bytes = len(spelled.decode("utf-8"))
    used = {piece for piece, kind in pieces if kind == "normal"}
    everything = sum(kind == "normal" for _, kind in vocabulary)
    return {
        "sentences": len(sentences),
        "tokens": len(pieces),
        "characters": characters,
        "characters_per_token": characters / len(pieces),
        "tokens_per_sentence": len(pieces) / len(sentences),
        "character_coverage": 1 - in_bytes / characters,
        "token_coverage": sum(kind == "normal" for _, kind in pieces) / len(pieces),
        "pieces_used": len(used),
        "vocabulary_used": len(used) / everything,
    }


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return small_corpus(tmp_path_factory.mktemp("coverage"), languages=("nso", "rus"), shards={"sentences": 50})


@pytest.mark.parametrize(
    "sentences",
    [
        [sentence(number) for number in range(50)],
        ["Ж 日本語 👨‍👩‍👧 ქართული", "naïve façade", "ﬁne ｆｕｌｌ  width", "x"],
        ["日本"],
    ],
)
def test_equal_to_a_count_over_the_text(corpus: Corpus, sentences: list[str]) -> None:
    tokenizer = corpus.tokenizer
    ids = [index for text in sentences for index in tokenizer.encode(text)]
    found = coverage(PieceTable(tokenizer), np.bincount(ids, minlength=tokenizer.vocab_size), len(sentences))
    assert found == pytest.approx(naive(tokenizer, sentences), abs=1e-6)


def test_no_text_has_no_shares(corpus: Corpus) -> None:
    found = coverage(PieceTable(corpus.tokenizer), np.zeros(corpus.tokenizer.vocab_size, np.int64), 0)
    assert found["characters_per_token"] is None and found["character_coverage"] is None and found["tokens"] == 0


def training_text(corpus: Corpus, language: str) -> list[str]:
    """The training sentences of a language in all pairs, decoded."""
    texts = []
    for pair in corpus.pairs:
        if language in pair.split("-"):
            sentences, side = corpus.sentences("train", pair), pair.split("-").index(language)
            texts += [corpus.tokenizer.decode(sentences[row][side].tolist()) for row in range(len(sentences))]
    return texts


def test_figures_of_a_corpus(corpus: Corpus) -> None:
    found = corpus.manifest["vocabulary"]["languages"]
    assert list(found) == ["eng", "nso", "rus"]
    for language in found:
        expected = naive(corpus.tokenizer, training_text(corpus, language))
        assert {name: found[language][name] for name in expected} == pytest.approx(expected, abs=1e-6)
        assert found[language]["text"] == "train"
    rows = {row[0]: row for row in vocabulary_rows(corpus.manifest["vocabulary"])}
    assert rows["rus"][2] == f"{found['rus']['characters_per_token']:.2f}" and len(rows) == 4


@pytest.mark.parametrize("beyond", [0, 1])
def test_a_bounded_part_of_the_text_is_whole_sentences_from_its_beginning(corpus: Corpus, beyond: int) -> None:
    sentences = corpus.sentences("train", "eng-nso")
    lengths = [len(sentences[row][0]) for row in range(len(sentences))]
    limit = sum(lengths[:123]) + beyond
    found = language_coverage(
        corpus.path, {"train": {"eng-nso": corpus.manifest["splits"]["train"]["eng-nso"]}}, corpus.tokenizer, limit
    )
    texts = [corpus.tokenizer.decode(sentences[row][0].tolist()) for row in range(123)]
    expected = naive(corpus.tokenizer, texts)
    assert {name: found["eng"][name] for name in expected} == pytest.approx(expected, abs=1e-6)


def test_a_language_of_held_out_text_only(corpus: Corpus) -> None:
    splits = {"train": {}, "test": {"eng-rus": corpus.manifest["splits"]["test"]["eng-rus"]}}
    found = language_coverage(corpus.path, splits, corpus.tokenizer)
    assert found["rus"]["text"] == "test" and found["rus"]["sentences"] == 20


def test_a_badly_covered_language_is_a_warning(tmp_path: Path) -> None:
    spec = small_spec(tmp_path, languages=("nso", "rus"), size=200)
    spec["pairs"][1]["train"] = [{
        "src": write_lines(tmp_path / "a", [sentence(number) for number in range(200)]),
        "tgt": write_lines(tmp_path / "b", [f"слово {chr(0x4E00 + n)}" for n in range(200)]),
    }]  # fmt: skip
    spec["sentencepiece"] |= {"character_coverage": 0.98}
    corpus = prepare_spec(tmp_path, spec)
    assert any("characters of rus are spelled in bytes; raise" in text for text in corpus.manifest["warnings"])
    assert not list(
        warnings_of({}, {"pieces": 1, "requested": 1, "languages": {"x": {"character_coverage": None, "changed": 0}}})
    )


def test_control_tokens_are_reserved_and_never_come_from_text(tmp_path: Path) -> None:
    corpus = small_corpus(tmp_path, languages=("nso",), sentencepiece={
        "vocab_size": 360, "allow_smaller": True, "num_threads": 1, "reserved": 5,
    })  # fmt: skip
    control = [piece for piece, kind in corpus.tokenizer.vocabulary() if kind == "control"]
    assert control[-5:] == [f"<reserved_{number}>" for number in range(5)] and "<2nso>" in control
    ids = corpus.tokenizer.encode("<reserved_0> <2nso> x")
    kinds = {corpus.tokenizer.vocabulary()[index][1] for index in ids}
    assert "control" not in kinds and corpus.tokenizer.decode(ids) == "<reserved_0> <2nso> x"
    reserved = corpus.tokenizer.vocabulary().index(("<reserved_3>", "control"))
    assert corpus.tokenizer.decode([reserved, *ids, reserved]) == "<reserved_0> <2nso> x"


def test_unknown_pieces_of_a_foreign_model_count_as_one_character(tmp_path: Path) -> None:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([sentence(number) for number in range(50)]), model_writer=model, vocab_size=45,
        pad_id=0, bos_id=1, eos_id=2, unk_id=3, minloglevel=2,
    )  # fmt: skip
    (tmp_path / "own.model").write_bytes(model.getvalue())
    tokenizer = Tokenizer(tmp_path / "own.model")
    ids = tokenizer.encode("The house Ж.")
    found = coverage(PieceTable(tokenizer), np.bincount(ids, minlength=tokenizer.vocab_size), 1)
    assert ids.count(3) == 1 and found["characters"] == len("The house Ж.")
    assert found["character_coverage"] == pytest.approx(11 / 12, abs=1e-6)
