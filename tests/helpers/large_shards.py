"""Shards of any size in little time: real offset tables and checksums, token files that are holes."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from smoe_ds.data.blocks import BlockSums, num_blocks
from smoe_ds.data.parallel_sentences import ParallelSentences, Side
from smoe_ds.data.shard_reader import ShardSide
from smoe_ds.data.shards import OFFSET_BLOCK, OFFSET_DTYPE, TOKEN_BLOCK, token_dtype

PER_SHARD = 1_000_000
DTYPE = token_dtype(32_000)


def open_directions(entries: dict[str, Any]) -> dict[str, ParallelSentences]:
    """Both directions of every pair, as one that has read nothing."""
    found = {}
    for pair, (folder, shards) in entries.items():
        languages = pair.split("-")
        sides = {name: Side([ShardSide(folder, shard[name], DTYPE) for shard in shards]) for name in languages}
        for direction in (pair, "-".join(reversed(languages))):
            found[direction] = ParallelSentences(direction, sides)
    return found


def write_large_pairs(folder: Path, pairs: int, sentences: int) -> dict[str, Any]:
    """Pairs ``eng-x00``, ``eng-x01`` ..., sizes going down as 1/rank; returns folder and shards of each.

    Args:
        folder: where to write; 16 bytes a sentence pair, and holes.
        pairs: number of pairs.
        sentences: pairs of sentences in all, about.
    """
    rng = np.random.default_rng(0)
    lengths = np.clip(np.exp(rng.normal(3.0, 0.6, 1 << 16)), 1, 250).astype(np.int64)
    weights = 1 / np.arange(1, pairs + 1)
    entries: dict[str, Any] = {}
    for number, size in enumerate(np.maximum(200, weights / weights.sum() * sentences).astype(int).tolist()):
        name = f"x{number:02d}"
        place = folder / f"eng-{name}"
        place.mkdir()
        other = np.clip(lengths * np.exp(rng.normal(0, 0.2, len(lengths))), 1, 250).astype(np.int64)
        counts = [min(PER_SHARD, size - start) for start in range(0, size, PER_SHARD)]
        shards = [
            {
                "eng": _write_side(place, f"{shard:05d}.eng", np.resize(lengths, count)),
                name: _write_side(place, f"{shard:05d}.{name}", np.resize(other, count)),
            }
            for shard, count in enumerate(counts)
        ]
        entries[f"eng-{name}"] = (place, shards)
    return entries


def _write_side(folder: Path, name: str, lengths: np.ndarray) -> dict[str, Any]:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(OFFSET_DTYPE)
    size = int(offsets[-1]) * DTYPE.itemsize
    (folder / f"{name}.idx").write_bytes(offsets.tobytes())
    with (folder / f"{name}.bin").open("wb") as file:
        file.truncate(size)
    token_sums = np.full(num_blocks(size, TOKEN_BLOCK), zlib.crc32(bytes(TOKEN_BLOCK)), "<u4")
    if size % TOKEN_BLOCK:
        token_sums[-1] = zlib.crc32(bytes(size % TOKEN_BLOCK))
    offset_sums = BlockSums(OFFSET_BLOCK)
    offset_sums.update(offsets.tobytes())
    sums = token_sums.tobytes() + offset_sums.sums().tobytes()
    (folder / f"{name}.crc").write_bytes(sums)
    return {
        "tokens": int(offsets[-1]),
        "bin": {"file": f"{name}.bin", "bytes": size},
        "idx": {"file": f"{name}.idx", "bytes": offsets.nbytes},
        "crc": {"file": f"{name}.crc", "bytes": len(sums), "sha256": hashlib.sha256(sums).hexdigest()},
    }
