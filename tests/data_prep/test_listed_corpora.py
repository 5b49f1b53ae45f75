"""Whole little OPUS-100, M4 and M15 trees, prepared from the lists: every text in its place, nothing leaks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_prep.cli import main
from data_prep.spec.pair_lists import listed_corpus
from data_prep.text.sentence_key import key
from smoe_ds.config import load_run
from smoe_ds.data.corpus import Corpus
from tests.helpers.environment import ROOT
from tests.helpers.listed import sentences, write_nllb, write_opus100
from tests.helpers.prepared import prepare_spec

SETTINGS: dict[str, Any] = {
    "output": "out",
    "clean": {"wrong_script": "keep"},  # all text is in Latin letters
    "sentencepiece": {"vocab_size": 700, "allow_smaller": True, "num_threads": 1},
}


def leaking(pair: str, split: str, language: str) -> list[str]:
    """The text of `sentences`, but for training text that holds a zero-shot test sentence, in capitals."""
    lines = sentences(pair, split, language)
    if (pair, split, language) == ("en-fr", "train", "fr"):
        lines[1] = sentences("fr-zh", "test", "fr")[2].upper() + "!"
    return lines


@pytest.fixture(scope="module")
def opus100(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("opus100")
    write_opus100(folder / "data", leaking)
    return prepare_spec(folder, SETTINGS | {"pair_list": {"name": "opus100", "root": "data"}})


def held_out(corpus: Corpus, split: str, direction: str) -> list[list[str]]:
    return [path.read_text(encoding="utf-8").splitlines() for path in corpus.text_files(split, direction)]


def trained(corpus: Corpus, direction: str) -> list[list[str]]:
    found = corpus.sentences("train", direction)
    pairs = [found[number] for number in range(len(found))]
    return [[corpus.tokenizer.decode(pair[side].tolist()) for pair in pairs] for side in (0, 1)]


def test_opus100_has_all_its_texts(opus100: Corpus) -> None:
    for pair, entry in listed_corpus("opus100").pairs.items():
        src, tgt = pair.split("-")
        for split in ("valid", "test"):
            expected = [sentences(pair, split, side) if split in entry.lines else [] for side in (src, tgt)]
            assert held_out(opus100, split, pair) == expected, (pair, split)
        if pair != "en-fr":
            expected = [sentences(pair, "train", side) if entry.train else [] for side in (src, tgt)]
            assert trained(opus100, pair) == expected, pair


def test_directions_by_what_they_have(opus100: Corpus) -> None:
    train, valid, test = (set(opus100.directions_of(split)) for split in ("train", "valid", "test"))
    assert (len(opus100.directions), len(train), len(valid), len(test)) == (228, 198, 188, 218)
    assert {"ar-de", "zh-ru"} <= test - train and {"an-en", "en-yo"} <= train - test
    assert len(opus100.languages) == 100
    assert {opus100.tokenizer.language_id(language) for language in opus100.languages}.isdisjoint(range(4))


def test_no_training_sentence_is_a_zero_shot_test_sentence(opus100: Corpus) -> None:
    assert trained(opus100, "fr-en")[0] == [sentences("en-fr", "train", "fr")[number] for number in (0, 2)]
    assert opus100.manifest["report"]["en-fr"]["train"]["dropped"] == {"held_out": 1}
    tested = {key(line) for pair in opus100.directions_of("test") for line in held_out(opus100, "test", pair)[0]}
    in_training = {key(line) for pair in opus100.directions_of("train") for line in trained(opus100, pair)[0]}
    assert len(tested) == 109 * 2 * 3 and not tested & in_training


def test_groups_and_wrong_line_counts_are_in_the_manifest(opus100: Corpus) -> None:
    groups = opus100.manifest["groups"]
    assert [sum(group == name for group in groups.values()) for name in ("high", "medium", "low")] == [45, 28, 21]
    assert "en-zu" in groups and "ar-de" not in groups and "an-en" not in groups
    warnings = opus100.manifest["warnings"]
    assert "ar-de test: 3 lines read, expected 2,000" in warnings
    assert sum("lines read, expected" in text for text in warnings) == 99 + 94 * 2 + 15
    assert not any("sentences drawn" in text for text in warnings)


def test_the_recipe_trains_the_94_pairs_of_the_paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full release, prepared by name as it is shipped, is what the run file reads: 188 directions."""
    write_opus100(tmp_path / "data/opus-100-corpus")
    monkeypatch.chdir(tmp_path)
    sets = ["clean.wrong_script=keep", "sentencepiece.vocab_size=700", "sentencepiece.allow_smaller=true"]
    assert main(["opus100", "--quiet", *(word for text in sets for word in ("--set", text))]) == 0
    run = load_run(ROOT / "ds_configs/opus100.json")
    assert run.smoe.data.directions is None
    corpus = Corpus(Path(run.smoe.data.path))
    train, valid, test = (set(corpus.directions_of(split)) for split in ("train", "valid", "test"))
    assert (len(train), len(valid), len(test)) == (188, 188, 218) and train < test and train == valid
    assert set(corpus.manifest["groups"]) == {pair for pair in corpus.pairs if "en" in pair.split("-")}


@pytest.mark.parametrize("name", ["m4", "m15"])
def test_m4_and_m15(tmp_path: Path, name: str) -> None:
    write_nllb(tmp_path / "data", name)
    (tmp_path / "data/made/eng-nso/made.eng-nso.nso").unlink()
    settings = {"name": name, "root": "data", "missing": "leave_out"}
    corpus = prepare_spec(tmp_path, SETTINGS | {"pair_list": settings})
    pairs = [pair for pair in listed_corpus(name).pairs if pair != "eng-nso"]
    assert list(corpus.pairs) == pairs and len(corpus.directions_of("train")) == 2 * len(pairs)
    for pair in pairs:
        assert trained(corpus, pair) == [sentences(pair, "train", side) for side in pair.split("-")]
        for split in ("valid", "test"):
            assert held_out(corpus, split, pair) == [sentences("flores", split, side) for side in pair.split("-")]
    assert corpus.manifest["groups"] == {pair: listed_corpus(name).pairs[pair].group for pair in pairs}
    assert "left out: eng-nso: lacks data/made/eng-nso/made.eng-nso.nso" in corpus.manifest["warnings"]
