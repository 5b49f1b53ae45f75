"""Held-out text, scores and samples."""

from __future__ import annotations

from pathlib import Path

import pytest

from smoe_ds.data.corpus import Corpus
from smoe_ds.decode.translator import Translator
from smoe_ds.errors import DataError
from smoe_ds.evaluate.evaluation import evaluate_direction, sample_places, signatures_of
from smoe_ds.evaluate.held_out import read_held_out
from smoe_ds.evaluate.metrics import Metrics, metrics_for

REFERENCES = ["The cat sat on the mat .", "It rained all day long."]


def test_scores_are_those_of_sacrebleu() -> None:
    import sacrebleu

    hypotheses = ["The cat sat on a mat .", "It rained all night long."]
    score = Metrics().score(hypotheses, REFERENCES)
    assert score.bleu == sacrebleu.corpus_bleu(hypotheses, [REFERENCES]).score
    assert score.chrf == sacrebleu.corpus_chrf(hypotheses, [REFERENCES], word_order=2).score
    assert Metrics().score(REFERENCES, REFERENCES).bleu == pytest.approx(100)
    assert 0 < score.bleu < 100


@pytest.mark.parametrize("tokenize", ["13a", "intl", "char"])
def test_signatures_name_the_choices(tokenize: str) -> None:
    signatures = Metrics(tokenize).signatures
    assert f"nrefs:1|case:mixed|eff:no|tok:{tokenize}|smooth:exp|version:" in signatures["BLEU"]
    assert "nc:6|nw:2" in signatures["chrF++"]


def test_a_tokenizer_is_never_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sacrebleu.utils.SACREBLEU_DIR", str(tmp_path))
    with pytest.raises(DataError, match=r"models/flores200sacrebleuspm: missing.*download it"):
        Metrics("flores200")
    assert not list(tmp_path.iterdir())


def test_held_out_text_is_checked(corpus: Corpus) -> None:
    there, back = (read_held_out(corpus, "test", direction, None) for direction in ("eng-nso", "nso-eng"))
    assert (there.sources, there.references) == (back.references, back.sources)
    assert read_held_out(corpus, "test", "eng-nso", 3).sources == there.sources[:3]
    file = corpus.text_files("test", "eng-nso")[0]
    content = file.read_bytes()
    try:
        file.write_bytes(content + b"one more\n")
        with pytest.raises(DataError, match=r"text/test\.eng-nso\.eng: content changed"):
            read_held_out(corpus, "test", "eng-nso", None)
    finally:
        file.write_bytes(content)


def test_a_direction_is_scored_against_its_references(corpus: Corpus, translator: Translator) -> None:
    text = read_held_out(corpus, "test", "eng-nso", 6)
    seen: list[int] = []
    result = evaluate_direction(text, translator, translator, Metrics(), lambda done, rate: seen.append(done))
    assert result.score == result.untrained == Metrics().score([t.text for t in result.translations], text.references)
    assert result.copied == Metrics().score(text.sources, text.references)
    assert seen == [6]
    assert result.count("translated") == 6


@pytest.mark.parametrize(
    ("sizes", "num", "expected"),
    [
        ([10, 10], 2, [(0, 5), (1, 5)]),
        ([10, 10], 3, [(0, 2), (1, 5), (0, 7)]),
        ([1, 3], 5, [(0, 0), (1, 0), (1, 1), (1, 2)]),
        ([10], 0, []),
        ([4, 4, 4], 2, [(0, 2), (1, 2)]),
    ],
)
def test_samples_are_spread(sizes: list[int], num: int, expected: list[tuple[int, int]]) -> None:
    assert list(sample_places(sizes, num)) == expected


def test_each_target_language_has_its_tokenizer(corpus: Corpus, translator: Translator) -> None:
    text = read_held_out(corpus, "test", "eng-nso", 2)
    results = [
        evaluate_direction(text, translator, None, metrics_for(language), lambda done, rate: None)
        for language in ("nso", "zho", "cat", "tha")
    ]
    assert [result.tokenizer for result in results] == ["13a", "zh", "13a", "char"]
    signatures = signatures_of(results)
    assert list(signatures) == ["BLEU (13a)", "BLEU (zh)", "BLEU (char)", "chrF++"]
    assert all(f"tok:{name}|" in signatures[f"BLEU ({name})"] for name in ("13a", "zh", "char"))
    assert signatures_of(results[::2]) == Metrics().signatures
