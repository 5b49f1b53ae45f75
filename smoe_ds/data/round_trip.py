"""Which sentences do not come back from their pieces as they are: what a vocabulary re-spells, or cannot hold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from smoe_ds.data.corpus import Corpus
from smoe_ds.data.ragged import Ragged
from smoe_ds.data.splits import HELD_OUT
from smoe_ds.data.tokenizer import Tokenizer

MAX_SENTENCES = 2000
"""Held-out sentences that are looked at, of a language in a split of a pair: the first ones."""

_BEFORE, _SHOWN = 30, 70  # characters before the first difference, and in all


@dataclass
class RoundTrip:
    """Sentences of a language.

    Attributes:
        compared: sentences that were looked at.
        changed: those that do not come back: each before and after.
    """

    compared: int = 0
    changed: list[tuple[str, str]] = field(default_factory=list)


def changed_sentences(
    tokenizer: Tokenizer, lines: Sequence[bytes], rows: Ragged, num_threads: int = 1
) -> list[tuple[str, str]]:
    """Sentences that their ids do not give back, each before and after.

    Args:
        tokenizer: the vocabulary.
        lines: the sentences, UTF-8.
        rows: their ids.
        num_threads: threads that decode.
    """
    texts = (line.decode("utf-8") for line in lines)
    decoded = tokenizer.decode_rows(rows, num_threads)
    return [(before, after) for before, after in zip(texts, decoded, strict=True) if before != after]


def first_difference(before: str, after: str) -> tuple[str, str]:
    """The part of two texts in which they first differ, with some characters around it."""
    pairs = enumerate(zip(before, after, strict=False))
    place = next((place for place, (one, other) in pairs if one != other), min(len(before), len(after)))
    start = max(0, place - _BEFORE)
    first, second = (_cut(text, start) for text in (before, after))
    return first, second


def _cut(text: str, start: int) -> str:
    end = start + _SHOWN
    return f"{'...' if start else ''}{text[start:end]}{'...' if end < len(text) else ''}"


def held_out_round_trip(corpus: Corpus) -> dict[str, RoundTrip]:
    """Compares the held-out text of a corpus with its ids, by language.

    Raises:
        DataError: a file is damaged.
    """
    found: dict[str, RoundTrip] = defaultdict(RoundTrip)
    for split in HELD_OUT:
        for pair in corpus.pairs:
            sentences = corpus.sentences(split, pair)
            if not len(sentences):
                continue
            numbers = np.arange(min(len(sentences), MAX_SENTENCES))
            for language, path, rows in zip(
                pair.split("-"), corpus.text_files(split, pair), sentences.read(numbers), strict=True
            ):
                with path.open("rb") as file:
                    lines = [line.rstrip(b"\n") for line in islice(file, len(numbers))]
                found[language].compared += len(numbers)
                found[language].changed += changed_sentences(corpus.tokenizer, lines, rows)
    return dict(sorted(found.items()))
