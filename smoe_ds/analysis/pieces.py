"""The pieces of a vocabulary by what they are, and by how frequent they are in analysed text."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from smoe_ds.analysis.routing_use import DirectionUse
from smoe_ds.data.ragged import Int64
from smoe_ds.data.tokenizer import BOS_ID, EOS_ID, Tokenizer

KINDS = (
    "word start",
    "inner piece",
    "punctuation",
    "digits",
    "byte",
    "unknown",
    "language token",
    "sentence begin",
    "sentence end",
    "other control",
)
"""What a piece can be. Punctuation includes symbols; both it and digits may stand at the start of a word."""
_SPACE = "▁"


@dataclass(frozen=True)
class Pieces:
    """A vocabulary and the frequency of its pieces in a text.

    Attributes:
        spelling_V: V spellings.
        kind_V: number in `KINDS` [V].
        count_V: how often each occurs in the text, inputs of encoder and decoder together, int64 [V].
        rank_V: 1 for the most frequent piece of the text; 0 for control tokens, and for what does not occur, int64 [V].
    """

    spelling_V: tuple[str, ...]
    kind_V: Int64
    count_V: Int64
    rank_V: Int64

    @property
    def bands(self) -> tuple[str, ...]:
        """Names of the bands of ranks: 1-10, 11-100, and so on, up to the last rank."""
        last = int(self.rank_V.max(initial=1))
        ends = [10**n for n in range(1, len(str(last - 1)) + 1)] if last > 1 else [10]
        return tuple(f"{1 if end == 10 else end // 10 + 1}-{end}" for end in ends)

    @property
    def band_V(self) -> Int64:
        """Number of each piece's band; -1 without a rank."""
        digits = np.array([len(str(rank - 1)) for rank in self.rank_V.clip(min=1).tolist()])
        return np.where(self.rank_V > 0, digits - 1, -1)


def pieces_of(tokenizer: Tokenizer, use: Iterable[DirectionUse]) -> Pieces:
    """The pieces of a vocabulary, ranked by a text; of equally frequent ones the lower id comes first.

    Args:
        tokenizer: the vocabulary.
        use: the text, by direction.
    """
    vocabulary = tokenizer.vocabulary()
    languages = set(tokenizer.language_ids.values())
    count_V = np.zeros(len(vocabulary), np.int64)
    for of_direction in use:
        for side in of_direction.sides.values():
            count_V[side.ids_U] += side.count_U
    kinds = [piece_kind(index, *entry, languages) for index, entry in enumerate(vocabulary)]
    ranked = np.array([kind != "control" for _, kind in vocabulary]) & (count_V > 0)
    order = np.argsort(-count_V, kind="stable")
    order = order[ranked[order]]
    rank_V = np.zeros(len(vocabulary), np.int64)
    rank_V[order] = np.arange(1, len(order) + 1)
    kind_V = np.array([KINDS.index(kind) for kind in kinds])
    return Pieces(tuple(spelling for spelling, _ in vocabulary), kind_V, count_V, rank_V)


def piece_kind(index: int, spelling: str, entry_kind: str, languages: set[int]) -> str:
    """What a piece is, one of `KINDS`.

    Args:
        index: its id.
        spelling: as the vocabulary has it.
        entry_kind: ``normal``, ``byte``, ``control`` or ``unknown``.
        languages: ids of language tokens.
    """
    if entry_kind == "control":
        special = {BOS_ID: "sentence begin", EOS_ID: "sentence end"}
        return "language token" if index in languages else special.get(index, "other control")
    if entry_kind != "normal":
        return entry_kind
    text = spelling.replace(_SPACE, "")
    if text and all(unicodedata.category(char)[0] in "PS" for char in text):
        return "punctuation"
    if text and all(unicodedata.category(char)[0] == "N" for char in text):
        return "digits"
    return "word start" if spelling.startswith(_SPACE) else "inner piece"
