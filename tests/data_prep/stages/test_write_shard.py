"""Shards from encoded pieces: cut at equal numbers of sentences, wherever the pieces end."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from data_prep.stages.encode_piece import LENGTH_DTYPE, ids_place
from data_prep.stages.pieces import Pieces
from data_prep.stages.write_shard import CORPUS, Encoded, plan_shards, write_shard
from smoe_ds.data.shards import ShardWriter, token_dtype

Sentences = list[tuple[list[int], list[int]]]


def store(pieces: Pieces, name: str, sentences: Sentences, vocab_size: int) -> Encoded:
    """Puts sentences where the encoding of a piece would put them."""
    for side in (0, 1):
        rows = [sentence[side] for sentence in sentences]
        for kind, values, dtype in (
            ("ids", [value for row in rows for value in row], token_dtype(vocab_size)),
            ("lengths", [len(row) for row in rows], LENGTH_DTYPE),
        ):
            path = pieces.root / ids_place(name, "train", side, kind)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.array(values, dtype).tofile(path)
    tokens = [sum(len(sentence[side]) for sentence in sentences) for side in (0, 1)]
    return Encoded(name, f"made from {name}", "train", (len(sentences), *tokens))


@pytest.mark.parametrize("seed", range(6))
def test_shards_equal_those_of_one_writer(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    vocab_size = rng.choice([300, 70_000])
    sizes = [rng.choice([0, 1, 5, 12]) for _ in range(rng.randint(1, 6))]
    limit = rng.choice([1, 3, 7, 100])
    texts = [[([rng.randrange(300) for _ in range(rng.randint(1, 9))], [rng.randrange(300)]) for _ in range(size)]
             for size in sizes]  # fmt: skip
    pieces = Pieces(tmp_path / "work")
    encoded = [store(pieces, f"ids/{n}", text, vocab_size) for n, text in enumerate(texts)]
    entries = [write_shard(pieces, shard) for shard in plan_shards("eng-nso", "train", vocab_size, encoded, limit)]

    writer = ShardWriter(tmp_path / "twin", ("eng", "nso"), vocab_size, limit)
    for src, tgt in (sentence for text in texts for sentence in text):
        writer.add([src], [tgt])
    assert entries == writer.close()["shards"]
    folder = pieces.root / CORPUS / "train" / "eng-nso"
    twins = {path.name: path.read_bytes() for path in (tmp_path / "twin").glob("*")}
    assert twins == {path.name: path.read_bytes() for path in folder.glob("*")}


def test_a_shard_that_is_there_is_not_written_again(tmp_path: Path) -> None:
    pieces = Pieces(tmp_path)
    encoded = [store(pieces, "ids/0", [([1, 2], [3])] * 5, 300)]
    (shard,) = plan_shards("eng-nso", "train", 300, encoded, 9)
    entry = write_shard(pieces, shard)
    path = tmp_path / CORPUS / "train/eng-nso/00000.eng.bin"
    before = path.stat().st_mtime_ns
    assert write_shard(pieces, shard) == entry and path.stat().st_mtime_ns == before
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert write_shard(pieces, shard) == entry and np.fromfile(path, "<u2").tolist() == [1, 2] * 5
