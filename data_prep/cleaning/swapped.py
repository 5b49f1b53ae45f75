"""Counts sentence pairs whose sides look exchanged, by the words that the rest of the text has on either side.

A text that is exchanged as a whole shows nothing here: see `exchanged`.
"""

from __future__ import annotations

from dataclasses import dataclass
from zlib import crc32

import numpy as np

from data_prep.cleaning.hash_sets import is_among
from data_prep.readers.side_lines import line_ends

NUM_BUCKETS = 1 << 18
_FREQUENT = 1000
_TABLE_BITS = 22
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: consecutive values lie far apart
_IS_BLANK = np.array([chr(code) in " \t\n\r\v\f" for code in range(256)])  # where `bytes.split` splits
_EVIDENCE = float(np.log(100))  # either side must be so much likelier as the other language


@dataclass(frozen=True)
class FrequentWords:
    """The most frequent words of one side of a text, K of them, 1,000 at most.

    Attributes:
        buckets: of their hashes, int64 [K], below ``NUM_BUCKETS``, each once.
        counts: how often each occurs, int64 [K].
    """

    buckets: np.ndarray
    counts: np.ndarray

    @classmethod
    def of(cls, counts: np.ndarray) -> FrequentWords:
        """Those of all words, counted by bucket."""
        buckets = np.flatnonzero(counts)
        if len(buckets) > _FREQUENT:
            buckets = buckets[np.argpartition(-counts[buckets], _FREQUENT)[:_FREQUENT]]
        return cls(buckets, counts[buckets])


@dataclass(frozen=True)
class Sides:
    """What comparing the two sides of sentence pairs shows.

    Attributes:
        number: pairs looked at.
        swapped: those whose sides look exchanged.
        words: of either side, less those that both sides of a pair have.
    """

    number: int
    swapped: int
    words: tuple[FrequentWords, FrequentWords]


@dataclass
class _Words:
    """Words of N sentences, one after the other: their hashes, and the sentence of each."""

    hashes: np.ndarray
    rows: np.ndarray

    @classmethod
    def of(cls, lines: bytes) -> _Words:
        words = lines.lower().split()
        blank = _IS_BLANK[np.frombuffer(lines, np.uint8)]
        begins = ~blank
        begins[1:] &= blank[:-1]
        hashes = np.fromiter(map(crc32, words), np.int64, len(words))
        return cls(hashes, np.searchsorted(line_ends(lines), np.flatnonzero(begins)))

    def without(self, other: _Words) -> _Words:
        """The words that the same sentence of the other side lacks."""
        mine, others = (words.rows << 32 | words.hashes for words in (self, other))
        shared = _may_be_among(mine, others)
        some = others[_may_be_among(others, mine[shared])]
        shared[shared] = is_among(mine[shared], np.sort(some))
        return _Words(self.hashes[~shared], self.rows[~shared])


def _may_be_among(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which values, int64 [N], are among others, [M], and few that are not: a table finds them, without sorting."""
    found = np.zeros(1 << _TABLE_BITS, bool)
    found[_place(others)] = True
    among: np.ndarray = found[_place(values)]
    return among


def _place(values: np.ndarray) -> np.ndarray:
    """A place in a table for each value, so that all its bits count."""
    return (values.view(np.uint64) * _SPREAD >> np.uint64(64 - _TABLE_BITS)).view(np.int64)


def compare_sides(src: bytes, tgt: bytes) -> Sides:
    """Counts the pairs of which both sides are far likelier on the other side, and the words of both sides.

    A word speaks for the side on which the other lines have it more often (log of the ratio of counts, smoothed by
    one half); words on both sides of a line say nothing. Languages without spaces between words give little evidence,
    and nothing is counted then.

    Args:
        src: sentences of the first language, UTF-8, each followed by a line end.
        tgt: sentences of the second language, pair by pair.
    """
    number = src.count(b"\n")
    first, second = _Words.of(src), _Words.of(tgt)
    sides = first.without(second), second.without(first)
    buckets = [words.hashes % NUM_BUCKETS for words in sides]
    counts = [np.bincount(found, minlength=NUM_BUCKETS) for found in buckets]
    swapped = np.ones(number, bool)
    for side, words in enumerate(sides):
        own, other = (counts[which][buckets[side]] for which in (side, 1 - side))
        evidence = np.log(np.maximum(own - 1, 0) + 0.5) - np.log(other + 0.5)  # the line itself does not count
        swapped &= np.bincount(words.rows, evidence, minlength=number) < -_EVIDENCE
    return Sides(number, int(swapped.sum()), (FrequentWords.of(counts[0]), FrequentWords.of(counts[1])))
