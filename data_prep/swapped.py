"""Counts sentence pairs whose sides look exchanged, by the words that the rest of the text has on either side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from zlib import crc32

import numpy as np

from data_prep.selection import is_among

_BUCKETS = 1 << 18
_EVIDENCE = float(np.log(100))  # either side must be so much likelier as the other language


@dataclass
class _Words:
    """Words of N sentences, one after the other: their hashes, and the sentence of each."""

    hashes: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, sentences: Sequence[str]) -> _Words:
        lines = [sentence.encode("utf-8").lower().split() for sentence in sentences]
        lengths = np.fromiter(map(len, lines), np.int64, len(lines))
        hashes = np.fromiter(map(crc32, chain.from_iterable(lines)), np.int64, int(lengths.sum()))
        return cls(hashes, np.repeat(np.arange(len(lines)), lengths))

    def without(self, other: _Words) -> _Words:
        """The words that the same sentence of the other side lacks."""
        mine, others = (words.rows << 32 | words.hashes for words in (self, other))
        kept = ~is_among(mine, np.sort(others))
        return _Words(self.hashes[kept], self.rows[kept])


def count_swapped(src: Sequence[str], tgt: Sequence[str]) -> int:
    """Number of pairs of which both sides are far likelier on the other side.

    A word speaks for the side on which the other lines have it more often (log of the ratio of counts, smoothed by
    one half); words on both sides of a line say nothing. Languages without spaces between words give little evidence,
    and nothing is counted then.

    Args:
        src: sentences of the first language.
        tgt: sentences of the second language, pair by pair.
    """
    first, second = _Words.of(src), _Words.of(tgt)
    sides = first.without(second), second.without(first)
    buckets = [words.hashes % _BUCKETS for words in sides]
    counts = [np.bincount(found, minlength=_BUCKETS) for found in buckets]
    swapped = np.ones(len(src), bool)
    for side, words in enumerate(sides):
        own, other = (counts[which][buckets[side]] for which in (side, 1 - side))
        evidence = np.log(np.maximum(own - 1, 0) + 0.5) - np.log(other + 0.5)  # the line itself does not count
        swapped &= np.bincount(words.rows, evidence, minlength=len(src)) < -_EVIDENCE
    return int(swapped.sum())
