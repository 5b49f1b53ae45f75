"""Damage to a prepared corpus: named with file and place, and before a wrong token is read."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from smoe_ds.data.blocks import BlockSums
from smoe_ds.data.corpus import Corpus
from smoe_ds.data.manifest import MANIFEST, read_manifest, shard_files, write_manifest
from smoe_ds.data.shards import OFFSET_BLOCK, TOKEN_BLOCK
from smoe_ds.data.stream import TrainStream
from smoe_ds.data.verify import find_damage
from smoe_ds.errors import DataError
from tests.helpers.prepared import small_corpus
from tests.helpers.streams import content, data_config

Change = Callable[[Path], None]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_corpus(tmp_path_factory.mktemp("corpus"), shards={"sentences": 150}).path


@pytest.fixture
def copy(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared, tmp_path / "corpus"))


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def stream_of(corpus: Corpus, prefetch: int = 0) -> TrainStream:
    ids = {language: corpus.tokenizer.language_id(language) for language in corpus.languages}
    return TrainStream(
        {direction: corpus.sentences("train", direction) for direction in corpus.directions},
        ids,
        data_config(window=64),
        seed=1,
        max_positions=64,
        micro_batches_per_step=1,
        rank=0,
        world_size=1,
        fingerprint=corpus.fingerprint,
        prefetch=prefetch,
    )


def read_until_error(folder: Path, steps: int, prefetch: int) -> tuple[list[object], str]:
    """Steps read from a corpus that is opened without a full check, and the error that ended it."""
    read: list[object] = []
    try:
        with stream_of(Corpus(folder, verify=False), prefetch) as stream:
            for _ in range(steps):
                read += [content(batch) for batch in stream.next_step().batches]
    except DataError as error:
        return read, str(error)
    return read, ""


# While training


def middle_flipped(path: Path) -> None:
    flip(path, path.stat().st_size * 4)


def cut_in_half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def swapped(path: Path) -> None:
    other = path.with_name(path.name.replace("00001", "00000"))
    ours, theirs = path.read_bytes(), other.read_bytes()
    path.write_bytes(theirs)
    other.write_bytes(ours)


@pytest.mark.parametrize("change", [middle_flipped, cut_in_half, emptied, swapped, Path.unlink])
@pytest.mark.parametrize("suffix", ["bin", "idx", "crc"])
@pytest.mark.parametrize("prefetch", [0, 2])
def test_damaged_shard_gives_right_tokens_or_an_error(copy: Path, change: Change, suffix: str, prefetch: int) -> None:
    expected, nothing = read_until_error(copy, 60, prefetch)
    assert (len(expected), nothing) == (60, "")
    change(copy / f"train/eng-nso/00001.nso.{suffix}")
    read, message = read_until_error(copy, 60, prefetch)
    assert read == expected[: len(read)] and len(read) < 60
    assert re.search(rf"train/eng-nso/0000[01]\.nso\.{suffix}: ", message)


@pytest.mark.parametrize("change", [cut_in_half, Path.unlink, swapped, middle_flipped])
def test_damage_after_the_corpus_was_opened(copy: Path, change: Change) -> None:
    corpus = Corpus(copy)
    sentences = corpus.sentences("train", "nso-eng")
    change(copy / "train/eng-nso/00001.nso.bin")
    with pytest.raises(DataError, match=r"train/eng-nso/0000[01]\.nso\.bin: .*smoe-ds data check"):
        sentences.read(np.arange(len(sentences)))


def test_file_that_is_cut_while_it_is_read(copy: Path) -> None:
    sentences = Corpus(copy).sentences("train", "nso-eng")
    sentences.read(np.arange(len(sentences)))
    path = copy / "train/eng-nso/00001.nso.bin"
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.truncate(10)
    with pytest.raises(DataError, match=rf"00001\.nso\.bin: expected {size} bytes, found 10; .*smoe-ds data check"):
        sentences.read(np.arange(len(sentences)))


def test_every_flipped_bit_of_a_shard_is_found(tmp_path: Path) -> None:
    folder = small_corpus(tmp_path, ["nso"], size=60).path
    count = len(Corpus(folder).sentences("train", "eng-nso"))
    for name in ("00000.nso.bin", "00000.nso.idx", "00000.nso.crc"):
        path = folder / "train/eng-nso" / name
        for bit in range(0, path.stat().st_size * 8, 1 if name.endswith("crc") else 7):
            flip(path, bit)
            with pytest.raises(DataError, match=rf"{name}: (content changed|offsets run)"):
                Corpus(folder, verify=False).sentences("train", "nso-eng").read(np.arange(count))
            flip(path, bit)


@pytest.mark.parametrize("block", [1, 7, 64])
def test_checksums_do_not_depend_on_how_a_file_is_written(block: int) -> None:
    data = np.random.default_rng(0).integers(0, 256, 200, np.uint8).tobytes()
    whole = BlockSums(block)
    whole.update(data)
    for sizes in ([1] * 200, [63, 2, 64, 0, 71], [130, 70]):
        parts, start = BlockSums(block), 0
        for size in sizes:
            parts.update(data[start : start + size])
            start += size
        assert parts.sums().tolist() == whole.sums().tolist()
    assert len(whole.sums()) == -(-200 // block)


def test_the_error_names_the_block_and_its_sentences(copy: Path) -> None:
    path = copy / "train/eng-nso/00002.eng.idx"
    flip(path, 8 * (OFFSET_BLOCK + 8))
    sentences = Corpus(copy, verify=False).sentences("train", "eng-nso")
    message = r"00002\.eng\.idx: content changed at byte offset 512 to \d+ \(offsets of sentences 64 to \d+ of \d+\);"
    with pytest.raises(DataError, match=message):
        sentences.read(np.array([300 + 65]))


def test_only_what_is_read_is_checked_and_only_once(copy: Path) -> None:
    sentences = Corpus(copy, verify=False).sentences("train", "eng-nso")
    assert (copy / "train/eng-nso/00000.eng.idx").stat().st_size > 2 * OFFSET_BLOCK
    flip(copy / "train/eng-nso/00000.eng.idx", 8 * OFFSET_BLOCK)
    sentences.read(np.array([3]))
    with pytest.raises(DataError, match="byte offset 512"):
        sentences.read(np.array([64]))
    flip(copy / "train/eng-nso/00000.eng.idx", 8 * OFFSET_BLOCK)
    sentences.read(np.array([64]))


def test_another_process_checks_for_itself(copy: Path) -> None:
    sentences = Corpus(copy, verify=False).sentences("train", "eng-nso")
    sentences.read(np.arange(150))
    flip(copy / "train/eng-nso/00000.eng.bin", 100)
    again = pickle.loads(pickle.dumps(sentences))
    with pytest.raises(DataError, match=r"00000\.eng\.bin: content changed at byte offset 0 to"):
        again[0]


# When the corpus is opened


@pytest.mark.parametrize("verify", [True, False])
def test_truncated_shard(copy: Path, verify: bool) -> None:
    path = copy / "train/eng-nso/00001.nso.bin"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    message = (
        rf"00001.nso.bin: truncated: expected {len(data)} bytes, found {len(data) // 2} "
        rf"\(ends at byte offset {len(data) // 2}, in sentence \d+ of 150\)[\s\S]*prepare the corpus again"
    )
    with pytest.raises(DataError, match=message):
        Corpus(copy, verify=verify)


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize(
    "name", ["train/eng-nso/00000.eng.idx", "tokenizer.model", "text/test.eng-cat.cat", "valid/eng-cat/00000.cat.crc"]
)
def test_missing_file(copy: Path, name: str, verify: bool) -> None:
    (copy / name).unlink()
    with pytest.raises(DataError, match=rf"{name}: No such file or directory, but manifest.json lists it"):
        Corpus(copy, verify=verify)


def test_longer_and_emptied_file(copy: Path) -> None:
    with (copy / "train/eng-nso/00000.eng.bin").open("ab") as file:
        file.write(b"\0\0")
    with pytest.raises(DataError, match=r"00000.eng.bin: longer than written"):
        Corpus(copy, verify=False)
    emptied(copy / "train/eng-nso/00000.eng.bin")
    with pytest.raises(DataError, match=r"00000.eng.bin: empty: expected \d+ bytes"):
        Corpus(copy, verify=False)


def test_damaged_ends_of_an_offset_table(copy: Path) -> None:
    path = copy / "train/eng-cat/00000.cat.idx"
    flip(path, 8 * (path.stat().st_size - 8))
    with pytest.raises(DataError, match=r"00000.cat.idx: offsets run from 0 to \d+, expected 0 to \d+ tokens"):
        Corpus(copy, verify=False)


def test_changed_tokenizer(copy: Path) -> None:
    flip(copy / "tokenizer.model", 1600)
    with pytest.raises(DataError, match=r"tokenizer.model: content changed: SHA-256 is \w+, manifest.json says \w+"):
        Corpus(copy)
    with pytest.raises(DataError, match=r"is not the tokenizer the shards were written with|not a SentencePiece model"):
        _ = Corpus(copy, verify=False).tokenizer


def test_changed_text_is_not_scored(copy: Path) -> None:
    flip(copy / "text/test.eng-cat.eng", 160)
    corpus = Corpus(copy, verify=False)
    corpus.text_files("test", "eng-nso")
    with pytest.raises(DataError, match=r"text/test.eng-cat.eng: content changed"):
        corpus.text_files("test", "cat-eng")


# Every byte


def test_undamaged(prepared: Path) -> None:
    read: list[int] = []
    manifest = read_manifest(prepared)
    assert find_damage(prepared, manifest, progress=read.append) == []
    assert sum(read) == sum(entry["bytes"] for _, entry in shard_files(manifest))


@pytest.mark.parametrize("threads", [1, 4])
def test_all_damage_is_listed(copy: Path, threads: int) -> None:
    flip(copy / "train/eng-nso/00000.eng.bin", 8 * (TOKEN_BLOCK - 1))
    flip(copy / "train/eng-nso/00001.nso.idx", 8 * OFFSET_BLOCK)
    flip(copy / "train/eng-cat/00000.cat.crc", 0)
    flip(copy / "text/valid.eng-cat.eng", 8)
    (copy / "valid/eng-nso/00000.nso.bin").unlink()
    swapped(copy / "train/eng-cat/00001.cat.crc")
    problems = find_damage(copy, read_manifest(copy), threads=threads)
    expected = [
        r"train/eng-nso/00000.eng.bin: content changed at byte offset 0 to \d+ \(ids of sentences 0 to \d+ of 150\)$",
        r"train/eng-nso/00001.nso.idx: content changed at byte offset 512 to \d+ \(offsets of sentences 64 to ",
        r"train/eng-cat/00000.cat.crc: has the content of train/eng-cat/00001.cat.crc",
        r"train/eng-cat/00001.cat.crc: content changed: SHA-256 is",
        r"valid/eng-nso/00000.nso.bin: No such file or directory, but manifest.json lists it",
        r"text/valid.eng-cat.eng: content changed: SHA-256 is",
    ]
    assert len(problems) == len(expected)
    for problem, pattern in zip(problems, expected, strict=True):
        assert re.search(pattern, problem), problem
    with pytest.raises(DataError) as error:
        Corpus(copy)
    assert str(error.value).splitlines()[:-1] == problems


def test_many_damaged_blocks_are_counted(copy: Path) -> None:
    path = copy / "train/eng-nso/00000.eng.idx"
    path.write_bytes(path.read_bytes()[::-1])
    (problem,) = find_damage(copy, read_manifest(copy))
    assert problem.count("offsets of sentences") == 3


def test_numbers_that_cannot_be_right_although_written_so(copy: Path) -> None:
    manifest = read_manifest(copy)
    manifest["tokenizer"]["vocab_size"] = 100
    assert any("holds id" in problem for problem in find_damage(copy, manifest))


# The manifest


def test_every_flipped_bit_of_the_manifest_is_found(copy: Path) -> None:
    path = copy / MANIFEST
    data = path.read_bytes()
    for byte in range(0, len(data), 5):
        changed = bytearray(data)
        changed[byte] ^= 1 << byte % 8
        path.write_bytes(changed)
        with pytest.raises(DataError, match=r"manifest.json: (damaged|format)"):
            read_manifest(copy)
    path.write_bytes(data)
    assert read_manifest(copy)["version"] == 2


@pytest.mark.parametrize("size", [0, 1, 80, 1000])
def test_cut_manifest(copy: Path, size: int) -> None:
    path = copy / MANIFEST
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match=rf"manifest.json: damaged.*its {size} bytes"):
        Corpus(copy)


def test_manifest_of_another_corpus(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = small_corpus(tmp_path / "other", size=390, shards={"sentences": 150})
    shutil.copy(other.path / MANIFEST, copy / MANIFEST)
    with pytest.raises(DataError, match=r"expected \d+ bytes, found \d+"):
        Corpus(copy, verify=False)


def test_missing_manifest_and_older_formats(copy: Path) -> None:
    path = copy / MANIFEST
    manifest = read_manifest(copy)
    old = {name: value for name, value in manifest.items() if name != "sha256"} | {"version": 1}
    path.write_text(json.dumps(old, indent=1))
    with pytest.raises(DataError, match="version 1, expected 'smoe-corpus' version 2; prepare the corpus again"):
        Corpus(copy)
    path.write_text(json.dumps(old | {"format": "x"}))
    with pytest.raises(DataError, match="damaged or no manifest"):
        Corpus(copy)
    write_manifest(copy, manifest | {"splits": {"train": {"eng-nso": {}}}})
    with pytest.raises(
        DataError,
        match=r"splits.train.eng-nso.sentences: Field required.*; data_prep did not write this; ",
    ):
        Corpus(copy)
    path.unlink()
    with pytest.raises(DataError, match=r"manifest.json: missing;.*not a corpus written by `python -m data_prep"):
        Corpus(copy)


def test_manifest_is_replaced_whole(copy: Path) -> None:
    before = read_manifest(copy)
    write_manifest(copy, before)
    assert read_manifest(copy) == before
    assert [path.name for path in copy.glob("manifest*")] == [MANIFEST]
