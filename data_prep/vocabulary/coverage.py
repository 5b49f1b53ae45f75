"""How well a vocabulary suits each language: from counts of its pieces in the encoded text, without encoding again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from smoe_ds.data.shards import OFFSET_DTYPE, token_dtype
from smoe_ds.data.tokenizer import Tokenizer

MAX_TOKENS = 4_000_000
"""Tokens looked at of a language in a pair: whole sentences from its beginning."""


class PieceTable:
    """What every piece of a vocabulary stands for.

    Attributes:
        characters: characters it spells, a space for each ``▁``; a byte piece counts where it begins a character, an
            unknown piece as one; int64 [V].
        fallback: whether it is a byte or unknown, bool [V].
        normal: whether it is text, bool [V].
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Looks at all pieces of a vocabulary."""
        pieces = tokenizer.vocabulary()
        self.characters = np.array([_characters(piece, kind) for piece, kind in pieces], np.int64)
        self.fallback = np.array([kind in ("byte", "unknown") for _, kind in pieces], bool)
        self.normal = np.array([kind == "normal" for _, kind in pieces], bool)


def _characters(piece: str, kind: str) -> int:
    if kind == "byte":  # e.g. <0xE2>
        return int(int(piece[3:5], 16) & 0xC0 != 0x80)
    return {"normal": len(piece), "unknown": 1}.get(kind, 0)


def coverage(table: PieceTable, counts: np.ndarray, sentences: int) -> dict[str, Any]:
    """Figures of a language.

    Args:
        table: the vocabulary's pieces.
        counts: how often each piece occurs in the language's text, int64 [V].
        sentences: how many sentences that text has, none of them empty.

    Returns:
        ``sentences``, ``tokens`` and ``characters`` looked at (of the normalised text, spaces included);
        ``characters_per_token``, ``tokens_per_sentence``; ``character_coverage`` and ``token_coverage``, the shares
        that need no byte fallback; ``pieces_used``, different pieces of text, and ``vocabulary_used``, their share of
        all. Shares are None without text.
    """
    tokens = int(counts.sum())
    characters = int(counts @ table.characters) - sentences  # each sentence begins with a space that is not its own
    fallback = int(counts[table.fallback] @ table.characters[table.fallback])
    used = int(np.count_nonzero(counts[table.normal]))
    return {
        "sentences": sentences,
        "tokens": tokens,
        "characters": characters,
        "characters_per_token": _share(characters, tokens),
        "tokens_per_sentence": _share(tokens, sentences),
        "character_coverage": _share(characters - fallback, characters),
        "token_coverage": _share(tokens - int(counts[table.fallback].sum()), tokens),
        "pieces_used": used,
        "vocabulary_used": _share(used, int(table.normal.sum())),
    }


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole else None


def language_coverage(
    corpus: Path, splits: Mapping[str, Mapping[str, Any]], tokenizer: Tokenizer, max_tokens: int = MAX_TOKENS
) -> dict[str, dict[str, Any]]:
    """Figures of every language of a corpus, from its training text; without any, from its held-out text.

    Args:
        corpus: folder of the corpus.
        splits: the manifest's entries by split and pair.
        tokenizer: the vocabulary.
        max_tokens: tokens looked at of a language in a pair.
    """
    table = PieceTable(tokenizer)
    languages = sorted({name for pairs in splits.values() for pair in pairs for name in pair.split("-")})
    found = {}
    for language in languages:
        for split in ("train", "test", "valid"):
            counts, sentences = _count(
                corpus / split, splits.get(split, {}), language, tokenizer.vocab_size, max_tokens
            )
            if sentences:
                break
        found[language] = {"text": split, **coverage(table, counts, sentences)}
    return found


def _count(
    folder: Path, pairs: Mapping[str, Any], language: str, vocab_size: int, max_tokens: int
) -> tuple[np.ndarray, int]:
    """How often each piece occurs in a language's text, [V], and in how many sentences."""
    counts, sentences = np.zeros(vocab_size, np.int64), 0
    for pair, entry in pairs.items():
        if language not in pair.split("-"):
            continue
        left = max_tokens
        for shard in entry["shards"]:
            side = shard["sides"][language]
            ends = np.fromfile(folder / pair / side["idx"]["file"], OFFSET_DTYPE)[1:]
            taken = int(np.searchsorted(ends, left, side="right"))
            tokens = int(ends[taken - 1]) if taken else 0
            ids = np.fromfile(folder / pair / side["bin"]["file"], token_dtype(vocab_size), count=tokens)
            counts += np.bincount(ids, minlength=vocab_size)
            sentences, left = sentences + taken, left - tokens
            if taken < len(ends):
                break
    return counts, sentences
