"""Last stage: encoded pieces become shards and held-out texts, and these the manifest's entries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from data_prep.stages.run import Run
from data_prep.stages.write_shard import Encoded, plan_shards, write_shard, write_text
from smoe_ds.data.splits import SPLITS


def write_all(run: Run, encoded: Mapping[tuple[str, str], list[Encoded]], vocab_size: int) -> dict[str, dict[str, Any]]:
    """Writes all shards and held-out texts; returns the manifest's entries by split and pair."""
    for pair in run.spec.pairs:
        for split in SPLITS:
            pieces = encoded.get((pair.pair, split), [])
            for shard in plan_shards(pair.pair, split, vocab_size, pieces, run.spec.shards.sentences):
                run.workers.submit(("writing", split, pair.pair, shard.number), write_shard, run.pieces, shard)
            if split != "train":
                run.workers.submit(
                    ("writing", split, pair.pair, "text"), write_text, run.pieces, pair.pair, split, pieces
                )
    written = dict(run.workers.results())
    return {split: {pair.pair: _entry(split, pair.pair, written) for pair in run.spec.pairs} for split in SPLITS}


def _entry(split: str, pair: str, written: Mapping[tuple[Any, ...], dict[str, Any]]) -> dict[str, Any]:
    numbers = sorted(key[3] for key in written if key[1:3] == (split, pair) and key[3] != "text")
    shards = [written["writing", split, pair, number] for number in numbers]
    entry = {
        "sentences": sum(shard["sentences"] for shard in shards),
        "tokens": {name: sum(shard["sides"][name]["tokens"] for shard in shards) for name in pair.split("-")},
        "shards": shards,
    }
    text = written.get(("writing", split, pair, "text"))
    return entry | ({"text": text} if text is not None else {})
