"""A prepared corpus read back: directions, sentences, fingerprint."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest

from smoe_ds.data.corpus import Corpus
from smoe_ds.errors import DataError
from tests.helpers.prepared import small_corpus


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_corpus(tmp_path_factory.mktemp("corpus"), shards={"sentences": 150}).path


@pytest.fixture
def copy(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "corpus"))


def test_pairs_and_directions(prepared: Path) -> None:
    corpus = Corpus(prepared)
    assert corpus.pairs == ("eng-nso", "eng-cat")
    assert corpus.directions == ("cat-eng", "eng-cat", "eng-nso", "nso-eng")
    assert corpus.languages == ("cat", "eng", "nso")
    assert corpus.tokenizer.sha256 == corpus.manifest["tokenizer"]["sha256"]


@pytest.mark.parametrize("direction", ["eng-nso", "nso-eng", "cat-eng"])
@pytest.mark.parametrize("split", ["valid", "test"])
def test_held_out_shards_hold_the_held_out_text(prepared: Path, split: str, direction: str) -> None:
    corpus = Corpus(prepared)
    sentences = corpus.sentences(split, direction)
    src, tgt = (path.read_text(encoding="utf-8").split("\n")[:-1] for path in corpus.text_files(split, direction))
    assert len(sentences) == len(src) == len(tgt) == {"valid": 10, "test": 20}[split]
    for number in range(len(sentences)):
        assert tuple(map(corpus.tokenizer.decode, sentences[number])) == (src[number], tgt[number])


def test_both_directions_read_the_same_shards(prepared: Path) -> None:
    corpus = Corpus(prepared)
    there, back = corpus.sentences("train", "eng-nso"), corpus.sentences("train", "nso-eng")
    assert len(there) == len(back) > 300 and len(corpus.manifest["splits"]["train"]["eng-nso"]["shards"]) == 3
    for number in (0, 149, 150, 151, len(there) - 1):
        assert [a.tolist() for a in there[number]] == [b.tolist() for b in reversed(back[number])]


def test_sentences_survive_pickling(prepared: Path) -> None:
    sentences = Corpus(prepared).sentences("train", "eng-nso")
    sentences[0]
    again = pickle.loads(pickle.dumps(sentences))
    assert again[200][0].tolist() == sentences[200][0].tolist()


def test_fingerprint_hangs_on_the_files_and_not_on_their_place(prepared: Path, copy: Path, tmp_path: Path) -> None:
    fingerprint = Corpus(prepared).fingerprint
    assert Corpus(copy).fingerprint == fingerprint and len(fingerprint) == 64
    other = tmp_path / "other"
    other.mkdir()
    assert small_corpus(other, size=399, shards={"sentences": 150}).fingerprint != fingerprint


def test_unknown_split_and_direction(prepared: Path) -> None:
    corpus = Corpus(prepared)
    with pytest.raises(
        DataError, match=r"no direction 'eng-tgl'; did you mean eng-\w+\? It has cat-eng, eng-cat, eng-nso"
    ):
        corpus.sentences("train", "eng-tgl")
    with pytest.raises(DataError, match=r"no split 'dev'; there are train, valid, test"):
        corpus.sentences("dev", "eng-nso")
    with pytest.raises(DataError, match="'train' is not kept"):
        corpus.text_files("train", "eng-nso")
