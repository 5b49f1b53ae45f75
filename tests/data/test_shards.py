"""The shard writer: what is read back is what was written, at every shard boundary and for both id widths."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from smoe_ds.data.blocks import CheckedFile
from smoe_ds.data.parallel_sentences import ParallelSentences, Side
from smoe_ds.data.ragged import Ragged
from smoe_ds.data.shard_reader import ShardSide
from smoe_ds.data.shards import ShardWriter, token_dtype

SRC = [[5, 6, 7], [8], [], [9, 10], [11, 12, 13, 14], [15], [16]]
TGT = [[21], [22, 23], [24], [25, 26, 27], [], [28], [29, 30]]


def open_pair(folder: Path, entry: dict[str, Any], direction: str, vocab_size: int) -> ParallelSentences:
    """The sentences of an entry that a writer returned."""
    dtype = token_dtype(vocab_size)
    sides = {
        language: Side([ShardSide(folder, shard["sides"][language], dtype) for shard in entry["shards"]])
        for language in direction.split("-")
    }
    return ParallelSentences(direction, sides)


@pytest.mark.parametrize("vocab_size", [31, 65536, 65537])
@pytest.mark.parametrize("per_shard", [1, 3, 7, 100])
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_round_trip(tmp_path: Path, vocab_size: int, per_shard: int, batch: int) -> None:
    writer = ShardWriter(tmp_path, ("eng", "nso"), vocab_size, per_shard)
    for start in range(0, len(SRC), batch):
        writer.add(SRC[start : start + batch], TGT[start : start + batch])
    entry = writer.close()
    assert entry["sentences"] == 7 and entry["tokens"] == {"eng": 12, "nso": 10}
    assert len(entry["shards"]) == -(-7 // per_shard)
    there = open_pair(tmp_path, entry, "eng-nso", vocab_size)
    back = open_pair(tmp_path, entry, "nso-eng", vocab_size)
    assert [(a.tolist(), b.tolist()) for a, b in (there[i] for i in range(7))] == list(zip(SRC, TGT, strict=True))
    assert [(a.tolist(), b.tolist()) for a, b in (back[i] for i in range(7))] == list(zip(TGT, SRC, strict=True))
    assert np.asarray(there.src_lengths).tolist() == [len(ids) for ids in SRC]
    assert there.tgt_lengths[np.array([6, 0, 4])].tolist() == [2, 1, 0]
    assert there[0][0].dtype == np.int64 and np.asarray(there.src_lengths).dtype == np.int32


def test_sentences_are_read_together_as_one_by_one(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, ("eng", "nso"), 31, 3)
    writer.add(SRC, TGT)
    sentences = open_pair(tmp_path, writer.close(), "eng-nso", 31)
    for numbers in ([6, 2, 0, 6, 3], [1], [5, 4], []):
        src, tgt = sentences.read(np.array(numbers, np.int64))
        for rows, whole in ((src, SRC), (tgt, TGT)):
            assert rows.values.tolist() == [token for number in numbers for token in whole[number]]
            assert rows.lengths.tolist() == [len(whole[number]) for number in numbers]


@pytest.mark.parametrize("resident", [2, 6, 1 << 20])
def test_a_file_read_part_after_part_gives_the_same(
    tmp_path: Path, resident: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = ShardWriter(tmp_path, ("eng", "nso"), 31, 100)
    writer.add(SRC, TGT)
    entry = writer.close()
    monkeypatch.setattr("smoe_ds.data.shard_reader.RESIDENT", resident)
    read: list[int] = []
    plain = CheckedFile.read

    def counted(file: CheckedFile, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        if file.path.suffix == ".bin":
            read.append(len(start))
        return plain(file, start, stop)

    monkeypatch.setattr(CheckedFile, "read", counted)
    side = open_pair(tmp_path, entry, "eng-nso", 31).src
    for numbers, parts in (([0, 1, 3, 4, 5, 6], {2: 6, 6: 4, 1 << 20: 1}[resident]), ([6, 2, 0, 6, 3], 1), ([], 1)):
        read.clear()
        rows = side.read(np.array(numbers, np.int64))
        assert rows.values.tolist() == [token for number in numbers for token in SRC[number]]
        assert len(read) == parts and sum(read) == len(numbers)


def test_rows_in_one_array_are_written_as_rows_one_by_one(tmp_path: Path) -> None:
    for name, src, tgt in (("lists", SRC, TGT), ("arrays", Ragged.of(SRC), Ragged.of(TGT))):
        writer = ShardWriter(tmp_path / name, ("eng", "nso"), 31, 3)
        writer.add(src, tgt)
        writer.close()
    for path in (tmp_path / "lists").iterdir():
        assert path.read_bytes() == (tmp_path / "arrays" / path.name).read_bytes()


def test_files_are_as_the_manifest_says(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, ("eng", "nso"), 31, 100)
    writer.add(SRC, TGT)
    side = writer.close()["shards"][0]["sides"]["eng"]
    tokens, offsets = (tmp_path / "00000.eng.bin").read_bytes(), (tmp_path / "00000.eng.idx").read_bytes()
    assert np.frombuffer(tokens, "<u2").tolist() == [token for ids in SRC for token in ids]
    assert np.frombuffer(offsets, "<u8").tolist() == [0, 3, 4, 4, 6, 10, 11, 12]
    sums = (tmp_path / "00000.eng.crc").read_bytes()
    assert np.frombuffer(sums, "<u4").tolist() == [zlib.crc32(tokens), zlib.crc32(offsets)]
    for part, data in ((side["bin"], tokens), (side["idx"], offsets), (side["crc"], sums)):
        assert part["bytes"] == len(data) and part["sha256"] == hashlib.sha256(data).hexdigest()


def test_nothing_written_leaves_no_files(tmp_path: Path) -> None:
    entry = ShardWriter(tmp_path / "empty", ("eng", "nso"), 31, 100).close()
    assert entry == {"sentences": 0, "tokens": {"eng": 0, "nso": 0}, "shards": []}
    assert not (tmp_path / "empty").exists()
    nothing = open_pair(tmp_path, entry, "eng-nso", 31)
    assert len(nothing) == 0 and np.asarray(nothing.src_lengths).shape == (0,)


def test_indices_out_of_range(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, ("eng", "nso"), 31, 3)
    writer.add(SRC, TGT)
    sentences = open_pair(tmp_path, writer.close(), "eng-nso", 31)
    for index in (-1, 7):
        with pytest.raises(IndexError, match=f"eng-nso: sentence {index} of 7"):
            sentences[index]
        with pytest.raises(IndexError, match="of 7"):
            sentences.src_lengths[np.array([0, index])]


def test_unequal_sides_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="7 source and 6 target"):
        ShardWriter(tmp_path, ("eng", "nso"), 31, 3).add(SRC, TGT[:6])


def test_width_of_an_id() -> None:
    assert token_dtype(65536).itemsize == 2 and token_dtype(65537).itemsize == 4


def test_more_shards_than_mapped_files(tmp_path: Path) -> None:
    """Each mapping holds a file descriptor; the oldest are let go."""
    writer = ShardWriter(tmp_path, ("eng", "nso"), 31, 1)
    writer.add([[5, number % 31] for number in range(400)], [[6]] * 400)
    sentences = open_pair(tmp_path, writer.close(), "eng-nso", 31)
    there, _ = sentences.read(np.arange(399, -1, -1))
    assert there.values.tolist() == [token for number in range(399, -1, -1) for token in (5, number % 31)]
    for _ in range(2):
        assert [int(sentences[number][0][1]) for number in range(400)] == [number % 31 for number in range(400)]
    assert len(list(Path("/proc/self/fd").iterdir())) < 450
