"""Puts encoded pieces together: shards of equal numbers of sentence pairs, and the text of what is held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from data_prep.stages.encode_piece import LENGTH_DTYPE, ids_place
from data_prep.stages.pieces import Entry, Pieces, fingerprint, needing, write_file
from smoe_ds.data.ragged import Ragged
from smoe_ds.data.shards import OFFSET_DTYPE, ShardWriter, token_dtype

CORPUS = "corpus"
"""The folder, below that of all pieces, that becomes the output."""


@dataclass(frozen=True)
class Encoded:
    """What a split takes of an encoded piece.

    Attributes:
        name: the piece.
        made_from: its fingerprint.
        split: the split.
        lengths: sentences, tokens of the first side, tokens of the second.
    """

    name: str
    made_from: str
    split: str
    lengths: tuple[int, int, int]


@dataclass(frozen=True)
class Shard:
    """A shard to write: sentence pairs ``start`` to ``stop - 1`` of each encoded piece in turn."""

    pair: str
    split: str
    number: int
    vocab_size: int
    parts: tuple[tuple[Encoded, int, int], ...]

    @property
    def made_from(self) -> str:
        """Its fingerprint."""
        parts = [[part.made_from, start, stop] for part, start, stop in self.parts]
        return fingerprint(self.pair, self.split, self.number, self.vocab_size, parts)


def plan_shards(pair: str, split: str, vocab_size: int, encoded: Sequence[Encoded], size: int) -> list[Shard]:
    """Cuts the encoded pieces of a split of a pair into shards of ``size`` sentence pairs, the last one smaller."""
    ends = list(accumulate((part.lengths[0] for part in encoded), initial=0))
    shards = []
    for number, first in enumerate(range(0, ends[-1], size)):
        cuts = ((part, max(first - start, 0), min(first + size, stop) - start)
                for part, start, stop in zip(encoded, ends, ends[1:], strict=False))  # fmt: skip
        parts = tuple((part, start, stop) for part, start, stop in cuts if start < stop)
        shards.append(Shard(pair, split, number, vocab_size, parts))
    return shards


def write_shard(pieces: Pieces, shard: Shard) -> dict[str, Any]:
    """Writes a shard into the corpus, unless it is there; returns its entry for the manifest.

    Raises:
        DataError: the disk is full.
    """
    name, made_from = f"shards/{shard.split}/{shard.pair}/{shard.number:05d}", shard.made_from
    done: dict[str, Any] | None = pieces.find(name, made_from)
    if done is not None:
        return done
    languages = _languages(shard.pair)
    place = f"{CORPUS}/{shard.split}/{shard.pair}"
    rows = [_rows(pieces, shard, side) for side in (0, 1)]
    size = sum(len(side) * OFFSET_DTYPE.itemsize + side.values.nbytes for side in rows)
    with pieces.draft() as draft:
        with needing(pieces.root / place / f"{shard.number:05d}", size):
            writer = ShardWriter(draft, languages, shard.vocab_size, len(rows[0]), first=shard.number)
            writer.add(*rows)
            entry: dict[str, Any] = writer.close()["shards"][0]
        files = [(draft / part["file"], f"{place}/{part['file']}", part) for part in _file_entries(entry)]
        pieces.commit(name, made_from, files, entry, durable=True)
    return entry


def _languages(pair: str) -> tuple[str, str]:
    src, tgt = pair.split("-")
    return src, tgt


def _rows(pieces: Pieces, shard: Shard, side: int) -> Ragged:
    parts = []
    for part, start, stop in shard.parts:
        places = (pieces.root / ids_place(part.name, part.split, side, kind) for kind in ("ids", "lengths"))
        ids, lengths = (np.fromfile(path, dtype) for path, dtype in
                        zip(places, (token_dtype(shard.vocab_size), LENGTH_DTYPE), strict=True))  # fmt: skip
        parts.append(Ragged(ids, lengths.astype(np.int64)).split(np.array([start, stop]))[0])
    return Ragged.concatenate(parts)


def _file_entries(entry: Any) -> list[Entry]:
    """All entries of files in the entry of a shard."""
    if not isinstance(entry, dict):
        return []
    return [entry] if "sha256" in entry else [found for value in entry.values() for found in _file_entries(value)]


def write_text(pieces: Pieces, pair: str, split: str, encoded: Sequence[Encoded]) -> dict[str, Any]:
    """Writes the text of a held-out split into the corpus, unless it is there.

    Returns:
        by language the file's entry for the manifest.
    """
    name = f"text/{split}/{pair}"
    made_from = fingerprint(pair, split, [part.made_from for part in encoded])
    done: dict[str, Any] | None = pieces.find(name, made_from)
    if done is not None:
        return done
    result, files = {}, []
    with pieces.draft() as draft:
        for side, language in enumerate(_languages(pair)):
            file = f"{split}.{pair}.{language}"
            texts = [(pieces.root / ids_place(part.name, split, side, "text")).read_bytes() for part in encoded]
            result[language] = write_file(
                draft / file, b"".join(texts), pieces.root / CORPUS / "text" / file, durable=True
            )
            files.append((draft / file, f"{CORPUS}/text/{file}", result[language]))
        pieces.commit(name, made_from, files, result, durable=True)
    return result
