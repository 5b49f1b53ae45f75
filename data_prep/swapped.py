"""Counts sentence pairs whose sides look exchanged, by the words that the rest of the text has on either side."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from zlib import crc32

import numpy as np

_BUCKETS = 1 << 18
_BATCH = 20_000
_EVIDENCE = float(np.log(100))  # either side must be so much likelier as the other language


def count_swapped(src: Path, tgt: Path) -> int:
    """Number of lines of which both sides are far likelier on the other side.

    A word speaks for the side on which the other lines have it more often (log of the ratio of counts, smoothed by
    one half). Languages without spaces between words give little evidence, and nothing is counted then.

    Args:
        src: text of the first language.
        tgt: text of the second language, line by line.
    """
    counts = np.zeros((2, _BUCKETS), np.int64)
    for side, path in enumerate((src, tgt)):
        for words, _ in _batches(path):
            counts[side] += np.bincount(words, minlength=_BUCKETS)
    scores = zip(_scores(src, counts[0], counts[1]), _scores(tgt, counts[1], counts[0]), strict=True)
    return sum(int(((a < -_EVIDENCE) & (b < -_EVIDENCE)).sum()) for a, b in scores)


def _scores(path: Path, own: np.ndarray, other: np.ndarray) -> Iterator[np.ndarray]:
    """Log-evidence of each line for its own side, a batch of lines at a time; the line itself does not count."""
    evidence = np.log(np.maximum(own - 1, 0) + 0.5) - np.log(other + 0.5)
    for words, lengths in _batches(path):
        totals = np.concatenate([[0.0], np.cumsum(evidence[words])])
        ends = np.cumsum(lengths)
        yield totals[ends] - totals[ends - lengths]


def _batches(path: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Hashed words and the number of words of each line, a batch of lines at a time."""
    with path.open("rb") as file:
        while lines := list(islice(file, _BATCH)):
            split = [line.lower().split() for line in lines]
            lengths = np.fromiter(map(len, split), np.int64, len(split))
            hashes = (crc32(word) % _BUCKETS for words in split for word in words)
            yield np.fromiter(hashes, np.int64, int(lengths.sum())), lengths
