"""The shard writer: what is read back is what was written, at every shard boundary and for both id widths."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from smoe_ds.data.corpus import ParallelSentences
from smoe_ds.data.shards import ShardWriter, map_array, token_dtype

SRC = [[5, 6, 7], [8], [], [9, 10], [11, 12, 13, 14], [15], [16]]
TGT = [[21], [22, 23], [24], [25, 26, 27], [], [28], [29, 30]]


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
    there = ParallelSentences(tmp_path, entry, "eng-nso", vocab_size)
    back = ParallelSentences(tmp_path, entry, "nso-eng", vocab_size)
    assert [(a.tolist(), b.tolist()) for a, b in (there[i] for i in range(7))] == list(zip(SRC, TGT, strict=True))
    assert [(a.tolist(), b.tolist()) for a, b in (back[i] for i in range(7))] == list(zip(TGT, SRC, strict=True))
    assert np.asarray(there.src_lengths).tolist() == [len(ids) for ids in SRC]
    assert there.tgt_lengths[np.array([6, 0, 4])].tolist() == [2, 1, 0]
    assert there[0][0].dtype == np.int64 and np.asarray(there.src_lengths).dtype == np.int32


def test_files_are_as_the_manifest_says(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, ("eng", "nso"), 31, 100)
    writer.add(SRC, TGT)
    side = writer.close()["shards"][0]["sides"]["eng"]
    tokens, offsets = (tmp_path / "00000.eng.bin").read_bytes(), (tmp_path / "00000.eng.idx").read_bytes()
    assert np.frombuffer(tokens, "<u2").tolist() == [token for ids in SRC for token in ids]
    assert np.frombuffer(offsets, "<u8").tolist() == [0, 3, 4, 4, 6, 10, 11, 12]
    for part, data in ((side["bin"], tokens), (side["idx"], offsets)):
        assert part["bytes"] == len(data) and part["sha256"] == hashlib.sha256(data).hexdigest()


def test_nothing_written_leaves_no_files(tmp_path: Path) -> None:
    entry = ShardWriter(tmp_path / "empty", ("eng", "nso"), 31, 100).close()
    assert entry == {"sentences": 0, "tokens": {"eng": 0, "nso": 0}, "shards": []}
    assert not (tmp_path / "empty").exists()
    nothing = ParallelSentences(tmp_path, entry, "eng-nso", 31)
    assert len(nothing) == 0 and np.asarray(nothing.src_lengths).shape == (0,)


def test_indices_out_of_range(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, ("eng", "nso"), 31, 3)
    writer.add(SRC, TGT)
    sentences = ParallelSentences(tmp_path, writer.close(), "eng-nso", 31)
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
    map_array.cache_clear()
    writer = ShardWriter(tmp_path, ("eng", "nso"), 31, 1)
    writer.add([[5, number % 31] for number in range(400)], [[6]] * 400)
    sentences = ParallelSentences(tmp_path, writer.close(), "eng-nso", 31)
    for _ in range(2):
        assert [int(sentences[number][0][1]) for number in range(400)] == [number % 31 for number in range(400)]
    assert len(list(Path("/proc/self/fd").iterdir())) < 450
