"""Encodes a piece of cleaned text: the ids of what each split takes of it, and the text of what is held out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.cleaning.examples import Examples, Ranked
from data_prep.cleaning.spool import Spool
from data_prep.stages.collector import collector_paused
from data_prep.stages.pieces import Pieces, fingerprint
from data_prep.vocabulary.round_trip import compare
from smoe_ds.data.ragged import Ragged
from smoe_ds.data.shards import token_dtype
from smoe_ds.data.tokenizer import Tokenizer

LENGTH_DTYPE = np.dtype("<u4")


@dataclass(frozen=True)
class Encoding:
    """A piece to encode.

    Attributes:
        name: of the piece of ids.
        spool: the text.
        piece: number of its piece.
        masks: by split, which of the piece's lines it takes, bool [n].
        compared: lines of which is looked at whether they come back from their ids, bool [n].
        max_pieces: most SentencePiece pieces on either side.
        model: the vocabulary's file.
        made_from: fingerprint of all this.
    """

    name: str
    spool: Spool
    piece: int
    masks: Mapping[str, np.ndarray]
    compared: np.ndarray
    max_pieces: int
    model: Path
    made_from: str

    @classmethod
    def of(
        cls,
        spool: Spool,
        piece: int,
        masks: Mapping[str, np.ndarray],
        compared: np.ndarray,
        max_pieces: int,
        model: Path,
        model_sha256: str,
        text_made_from: str,
    ) -> Encoding:
        """The piece, with its fingerprint; ``text_made_from`` is that of the text."""
        marked = {**masks, "compared": compared}
        lines = {name: hashlib.sha256(mask.tobytes()).hexdigest() for name, mask in marked.items()}
        pair = "-".join(spool.languages)
        looked_for = ["changed", "lost"]  # what `compare` finds; pieces of a version that found less are made again
        made_from = fingerprint(pair, spool.split, piece, lines, max_pieces, model_sha256, text_made_from, looked_for)
        name = f"ids/{pair}.{spool.split}/{piece:05d}"
        return cls(name, spool, piece, masks, compared, max_pieces, model, made_from)


def ids_place(name: str, split: str, side: int, kind: str) -> str:
    """Where the ids (``kind`` "ids"), their lengths or the text of a split in a piece are."""
    return f"{name}.{split}.{side}.{kind}"


@collector_paused()
def encode_piece(pieces: Pieces, encoding: Encoding, num_threads: int) -> dict[str, Any]:
    """Encodes a piece, unless that is finished.

    Args:
        pieces: where the pieces are.
        encoding: the piece.
        num_threads: threads that encode; the result does not depend on them.

    Returns:
        by split ``lengths`` [sentences, tokens of the first side, of the second], ``too_many_pieces``,
        ``examples`` of them, and ``round_trip``, what `compare` found.
    """
    done: dict[str, Any] | None = pieces.find(encoding.name, encoding.made_from)
    if done is not None:
        return done
    tokenizer = _tokenizer(encoding.model)
    contents: dict[str, bytes] = {}
    result: dict[str, Any] = {}
    every = np.logical_or.reduce(list(encoding.masks.values()))
    texts = [encoding.spool.piece_lines(encoding.piece, side, every) for side in (0, 1)]
    rows = [tokenizer.encode_rows(lines, num_threads) for lines in texts]
    fits = np.logical_and.reduce([(r.lengths > 0) & (r.lengths <= encoding.max_pieces) for r in rows])
    dtype = token_dtype(tokenizer.vocab_size)
    for split, mask in encoding.masks.items():
        wanted = mask[every]
        kept = wanted & fits
        sides = [_only(side_rows, kept) for side_rows in rows]
        for side, (ids, lines) in enumerate(zip(sides, texts, strict=True)):
            name = encoding.name
            contents[ids_place(name, split, side, "ids")] = ids.values.astype(dtype).tobytes()
            contents[ids_place(name, split, side, "lengths")] = ids.lengths.astype(LENGTH_DTYPE).tobytes()
            if split != "train":
                contents[ids_place(name, split, side, "text")] = _text(lines, kept)
        result[split] = {
            "lengths": [len(sides[0]), *(len(ids.values) for ids in sides)],
            "too_many_pieces": int(wanted.sum() - kept.sum()),
            "examples": _examples(texts, wanted & ~fits),
            "round_trip": _round_trip(tokenizer, encoding, texts, rows, kept),
        }
    pieces.commit_data(encoding.name, encoding.made_from, contents, result)
    return result


def _examples(texts: Sequence[Sequence[bytes]], dropped: np.ndarray) -> Ranked:
    examples = Examples(seed=0)
    for row in np.flatnonzero(dropped).tolist():
        examples.add("too_many_pieces", texts[0][row], texts[1][row])
    return examples.ranked()


def _round_trip(
    tokenizer: Tokenizer, encoding: Encoding, texts: Sequence[Sequence[bytes]], rows: Sequence[Ragged], kept: np.ndarray
) -> dict[str, Any]:
    every = np.logical_or.reduce(list(encoding.masks.values()))
    chosen = np.flatnonzero(kept & encoding.compared[every])
    lines = [[side[row] for row in chosen.tolist()] for side in texts]
    return compare(tokenizer, encoding.spool.languages, lines, [side.take(chosen) for side in rows])


def _tokenizer(model: Path) -> Tokenizer:
    """The vocabulary, loaded once in a process."""
    if _LOADED.get("file") != (model, model.stat().st_mtime_ns):
        _LOADED.update(file=(model, model.stat().st_mtime_ns), tokenizer=Tokenizer(model))
    tokenizer: Tokenizer = _LOADED["tokenizer"]
    return tokenizer


_LOADED: dict[str, Any] = {}


def _only(rows: Ragged, kept: np.ndarray) -> Ragged:
    if kept.all():
        return rows
    return Ragged(rows.values[np.repeat(kept, rows.lengths)], rows.lengths[kept])


def _text(lines: Sequence[bytes], kept: np.ndarray) -> bytes:
    return b"".join([lines[row] + b"\n" for row in np.flatnonzero(kept).tolist()])
