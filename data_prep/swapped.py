"""Counts sentence pairs whose sides look exchanged, by the words that the rest of the text has on either side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from zlib import crc32

import numpy as np

_BUCKETS = 1 << 18
_BATCH = 20_000
_EVIDENCE = float(np.log(100))  # either side must be so much likelier as the other language
Words = tuple[np.ndarray, np.ndarray]
"""Hashed words of a batch of lines one after the other, and the number of words of each line."""


def count_swapped(src: Sequence[str], tgt: Sequence[str]) -> int:
    """Number of pairs of which both sides are far likelier on the other side.

    A word speaks for the side on which the other lines have it more often (log of the ratio of counts, smoothed by
    one half); words on both sides of a line say nothing. Languages without spaces between words give little evidence,
    and nothing is counted then.

    Args:
        src: sentences of the first language.
        tgt: sentences of the second language, pair by pair.
    """
    counts = np.zeros((2, _BUCKETS), np.int64)
    for batch in _batches(src, tgt):
        for side, (words, _) in enumerate(batch):
            counts[side] += np.bincount(words, minlength=_BUCKETS)
    log_other = np.log(counts + 0.5)
    log_own = np.log(np.maximum(counts - 1, 0) + 0.5)  # the line itself does not count
    evidence = log_own - log_other[::-1]
    swapped = 0
    for batch in _batches(src, tgt):
        scores = [_sums(evidence[side][words], lengths) for side, (words, lengths) in enumerate(batch)]
        swapped += int(((scores[0] < -_EVIDENCE) & (scores[1] < -_EVIDENCE)).sum())
    return swapped


def _sums(values: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    totals = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.cumsum(lengths)
    sums: np.ndarray = totals[ends] - totals[ends - lengths]
    return sums


def _batches(src: Sequence[str], tgt: Sequence[str]) -> Iterator[tuple[Words, Words]]:
    """Words of both sides that the other side of the pair lacks, a batch of pairs at a time."""
    for start in range(0, len(src), _BATCH):
        both = zip(src[start : start + _BATCH], tgt[start : start + _BATCH], strict=True)
        pairs = [(first.encode().lower().split(), second.encode().lower().split()) for first, second in both]
        yield _hashed([_without(a, b) for a, b in pairs]), _hashed([_without(b, a) for a, b in pairs])


def _without(words: list[bytes], others: list[bytes]) -> list[bytes]:
    excluded = set(others)
    return [word for word in words if word not in excluded]


def _hashed(lines: list[list[bytes]]) -> Words:
    lengths = np.fromiter(map(len, lines), np.int64, len(lines))
    hashes = np.fromiter(map(crc32, chain.from_iterable(lines)), np.int64, int(lengths.sum()))
    return hashes % _BUCKETS, lengths
