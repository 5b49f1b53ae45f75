"""Token shards for the benchmark of loaders, invented or of a prepared corpus, and what every loader needs of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from smoe_ds.data.manifest import read_manifest
from smoe_ds.data.parallel_sentences import ParallelSentences, Side
from smoe_ds.data.ragged import Ragged
from smoe_ds.data.shard_reader import ShardSide
from smoe_ds.data.shards import ShardWriter, token_dtype
from tests.helpers.large_shards import write_large_pairs

VOCAB_SIZE = 32_000
PAIRS = 94
LISTING = "pairs.json"


@dataclass(frozen=True)
class Pairs:
    """The training shards of a folder.

    Attributes:
        vocab_size: size of the vocabulary.
        folders: pair -> folder of its shards.
        entries: pair -> its entry in the manifest.
    """

    vocab_size: int
    folders: dict[str, Path]
    entries: dict[str, Any]

    def sentences(self) -> dict[str, ParallelSentences]:
        """Every direction of every pair."""
        found = {}
        for pair, entry in self.entries.items():
            dtype = token_dtype(self.vocab_size)
            first, second = pair.split("-")
            sides = {
                name: Side([ShardSide(self.folders[pair], s["sides"][name], dtype) for s in entry["shards"]])
                for name in (first, second)
            }
            for direction in (pair, f"{second}-{first}"):
                found[direction] = ParallelSentences(direction, sides)
        return found

    def language_ids(self) -> dict[str, int]:
        """A token for every language; which one does not matter here."""
        names = sorted({name for pair in self.entries for name in pair.split("-")})
        return {name: 4 + number for number, name in enumerate(names)}


def open_pairs(folder: Path) -> Pairs:
    """The shards of a prepared corpus, or of :func:`write_pairs`."""
    if (folder / LISTING).is_file():
        listing = json.loads((folder / LISTING).read_text(encoding="utf-8"))
        return Pairs(listing["vocab_size"], {pair: folder / pair for pair in listing["pairs"]}, listing["pairs"])
    manifest = read_manifest(folder)
    entries = {pair: entry for pair, entry in manifest["splits"]["train"].items() if entry["sentences"]}
    return Pairs(manifest["tokenizer"]["vocab_size"], {pair: folder / "train" / pair for pair in entries}, entries)


def write_pairs(folder: Path, sentences: int) -> Pairs:
    """Invents pairs whose sizes go down as 1/rank, with sentences of lognormal length, median 20 pieces."""
    weights = 1 / np.arange(1, PAIRS + 1)
    sizes = np.maximum(50, weights / weights.sum() * sentences).astype(int)
    entries = {}
    rng = np.random.default_rng(0)
    for number, size in enumerate(sizes.tolist()):
        pair = f"eng-x{number:02d}"
        src = np.clip(np.exp(rng.normal(3.0, 0.6, size)), 1, 250).astype(np.int64)
        tgt = np.clip(src * np.exp(rng.normal(0, 0.2, size)), 1, 250).astype(np.int64)
        writer = ShardWriter(folder / pair, ("eng", f"x{number:02d}"), VOCAB_SIZE, 1_000_000)
        src_ids, tgt_ids = (rng.integers(200, VOCAB_SIZE, int(lengths.sum())) for lengths in (src, tgt))
        writer.add(Ragged(src_ids, src), Ragged(tgt_ids, tgt))
        entries[pair] = writer.close()
    (folder / LISTING).write_text(json.dumps({"vocab_size": VOCAB_SIZE, "pairs": entries}), encoding="utf-8")
    return open_pairs(folder)


def write_holes(folder: Path, sentences: int) -> Pairs:
    """Invents pairs of about the same sizes and lengths whose token files are holes: any number in little time."""
    folder.mkdir(parents=True)
    entries = {
        pair: {"shards": [{"sides": sides} for sides in shards]}
        for pair, (_, shards) in write_large_pairs(folder, PAIRS, sentences).items()
    }
    (folder / LISTING).write_text(json.dumps({"vocab_size": VOCAB_SIZE, "pairs": entries}), encoding="utf-8")
    return open_pairs(folder)
