"""A prepared corpus read back: directions, sentences, fingerprint, and every kind of damage named."""

from __future__ import annotations

import json
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
    with pytest.raises(DataError, match=r"no direction 'eng-tgl'; the corpus has: cat-eng, eng-cat"):
        corpus.sentences("train", "eng-tgl")
    with pytest.raises(DataError, match=r"no split 'dev'; there are train, valid, test"):
        corpus.sentences("dev", "eng-nso")
    with pytest.raises(DataError, match="'train' is not kept"):
        corpus.text_files("train", "eng-nso")


@pytest.mark.parametrize("verify", [True, False])
def test_truncated_shard(copy: Path, verify: bool) -> None:
    path = copy / "train/eng-nso/00001.nso.bin"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    message = (
        rf"00001.nso.bin: truncated: expected {len(data)} bytes, found {len(data) // 2} "
        rf"\(ends at byte offset {len(data) // 2}, in sentence \d+ of 150\).*prepare the corpus again"
    )
    with pytest.raises(DataError, match=message):
        Corpus(copy, verify=verify)


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize(
    "name", ["train/eng-nso/00000.eng.idx", "tokenizer.model", "text/test.eng-cat.cat", "valid/eng-cat/00000.cat.bin"]
)
def test_missing_file(copy: Path, name: str, verify: bool) -> None:
    (copy / name).unlink()
    with pytest.raises(DataError, match=rf"{name}: No such file or directory, but manifest.json lists it"):
        Corpus(copy, verify=verify)


def test_longer_file(copy: Path) -> None:
    with (copy / "train/eng-nso/00000.eng.bin").open("ab") as file:
        file.write(b"\0\0")
    with pytest.raises(DataError, match=r"00000.eng.bin: longer than written"):
        Corpus(copy, verify=False)


@pytest.mark.parametrize(
    "name", ["train/eng-nso/00000.eng.bin", "train/eng-nso/00000.eng.idx", "text/valid.eng-cat.eng"]
)
def test_a_changed_byte_is_found_by_its_hash(copy: Path, name: str) -> None:
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(DataError, match=rf"{name}: content changed: SHA-256 is \w+, manifest.json says \w+"):
        Corpus(copy)
    Corpus(copy, verify=False)


def test_damaged_ends_of_an_offset_table(copy: Path) -> None:
    path = copy / "train/eng-cat/00000.cat.idx"
    data = bytearray(path.read_bytes())
    data[-8] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"00000.cat.idx: offsets run from 0 to \d+, expected 0 to \d+ tokens"):
        Corpus(copy, verify=False)


def test_changed_tokenizer(copy: Path) -> None:
    path = copy / "tokenizer.model"
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"tokenizer.model: is not the tokenizer the shards were written with"):
        Corpus(copy)
    with pytest.raises(DataError, match=r"is not the tokenizer the shards were written with|no SentencePiece model"):
        _ = Corpus(copy, verify=False).tokenizer


def test_missing_and_foreign_manifest(copy: Path) -> None:
    path = copy / "manifest.json"
    manifest = json.loads(path.read_text())
    for change, message in (
        ({"version": 99}, "version 99, expected 'smoe-corpus' version 1"),
        ({"format": "x"}, "format 'x'"),
        ({"splits": {"train": {"eng-nso": {}}}}, "lacks 'shards'"),
    ):
        path.write_text(json.dumps(manifest | change))
        with pytest.raises(DataError, match=message):
            Corpus(copy)
    path.write_text('{"format": ')
    with pytest.raises(DataError, match=r"manifest.json: cannot be read"):
        Corpus(copy)
    path.unlink()
    with pytest.raises(DataError, match=r"manifest.json: missing;.*no corpus written by `python -m data_prep"):
        Corpus(copy)
