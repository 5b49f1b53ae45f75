"""A window of sentence pairs cut into micro-batches of at most N tokens, padding included, with little padding.

Sorting by one side leaves the other ragged. The window is cut into strips of similar source length instead; within a
strip pairs are sorted by target length, upwards and downwards in turn, so that neighbours on the path have both sides
alike also where one strip passes into the next. The path is then cut greedily, which is optimal for a given path; of
a few strip counts the one that needs the fewest batches is taken.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smoe_ds.data.seeding import random_words

Int64 = NDArray[np.int64]

# Strips tried, as multiples of sqrt(batches). On lognormal lengths the best lies within, from 40 to 1,000 batches.
_STRIP_FACTORS = (1.0, 1.5, 2.0)


@dataclass(frozen=True)
class Packing:
    """Micro-batches of a window in the order in which they are read.

    Attributes:
        rows: int64 [N], numbers of the pairs, each exactly once, batch after batch.
        bounds: int64 [M + 1]; batch m holds ``rows[bounds[m]:bounds[m + 1]]``.
    """

    rows: Int64
    bounds: Int64

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __getitem__(self, batch: int) -> Int64:
        return self.rows[self.bounds[batch] : self.bounds[batch + 1]]

    def sums(self, lengths: Int64) -> Int64:
        """Sum of ``lengths`` [N] over each batch; int64 [M]."""
        ends = np.concatenate([[0], np.cumsum(lengths[self.rows])])[self.bounds]
        return np.diff(ends)

    def padded(self, lengths: Int64) -> int:
        """Sum of ``lengths`` [N] over all batches when each counts as the longest of its batch."""
        if not len(self):
            return 0
        longest = np.maximum.reduceat(lengths[self.rows], self.bounds[:-1])
        return int((longest * np.diff(self.bounds)).sum())


def pack(src_lengths: Int64, tgt_lengths: Int64, max_tokens: int, *key: int | str) -> Packing:
    """Cuts pairs into batches with ``pairs * (longest source + longest target) <= max_tokens``.

    Args:
        src_lengths: int64 [N], tokens with special tokens.
        tgt_lengths: int64 [N].
        max_tokens: budget; each single pair must be within it.
        key: what the random order of batches, of pairs in a batch and among equal lengths is a function of.

    Returns:
        All N pairs in batches.

    Raises:
        ValueError: a pair alone exceeds the budget.
    """
    if not len(src_lengths):
        return Packing(np.zeros(0, np.int64), np.zeros(1, np.int64))
    if int((src_lengths + tgt_lengths).max()) > max_tokens:
        raise ValueError(f"pack: a pair alone exceeds max_tokens {max_tokens}")
    shuffled = np.argsort(random_words(len(src_lengths), *key, "pairs"), kind="stable")
    src, tgt = src_lengths[shuffled], tgt_lengths[shuffled]
    path, bounds = _best_path(src, tgt, max_tokens)
    order = np.argsort(random_words(len(bounds) - 1, *key, "batches"), kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    sizes = np.diff(bounds)
    # Within a batch the shuffled order, so that neither length nor direction decides a place in the batch.
    rows = path[np.lexsort((path, np.repeat(place, sizes)))]
    return Packing(shuffled[rows], np.concatenate([[0], np.cumsum(sizes[order])]))


def _best_path(src: Int64, tgt: Int64, max_tokens: int) -> tuple[Int64, Int64]:
    """Path over the pairs [N] and its cuts [M + 1] with the fewest batches, then the least padding."""
    batches = max(1.0, float((src + tgt).sum()) / max_tokens)
    best: tuple[tuple[int, int], Int64, Int64] | None = None
    for strips in sorted({max(1, round(factor * math.sqrt(batches))) for factor in _STRIP_FACTORS}):
        path = _path(src, tgt, strips)
        bounds, padded = _cut(src[path], tgt[path], max_tokens)
        cost = (len(bounds), padded)
        if best is None or cost < best[0]:
            best = (cost, path, bounds)
    assert best is not None
    return best[1], best[2]


def _path(src: Int64, tgt: Int64, strips: int) -> Int64:
    """Order of the pairs through ``strips`` strips of source length, target length up and down in turn.

    Strip borders are spaced evenly in the integral of the square root of the token histogram: padding in a strip is
    about its tokens times its width, and the sum over strips is least when tokens times width is equal in all.
    """
    histogram = np.bincount(src, weights=src + tgt)
    # Integers from here on; sqrt is exact to the last bit on every processor, unlike pow.
    measure = np.cumsum(np.sqrt(histogram * 2.0**20).astype(np.int64))
    strip_of_length = np.minimum((measure - 1).clip(0) * strips // measure[-1], strips - 1)
    strip = strip_of_length[src]
    span = int(tgt.max()) + 1
    snake = np.where(strip % 2 == 0, tgt, span - 1 - tgt)
    return np.argsort((strip * span + snake) * (int(src.max()) + 1) + src, kind="stable")


def _cut(src: Int64, tgt: Int64, max_tokens: int) -> tuple[Int64, int]:
    """Greedy cuts [M + 1] of pairs in the given order, and the tokens of all batches with padding."""
    bounds, padded, start = [0], 0, 0
    while start < len(src):
        # The first pair bounds the batch size, since running maxima only grow.
        end = start + max_tokens // int(src[start] + tgt[start])
        width = np.maximum.accumulate(src[start:end]) + np.maximum.accumulate(tgt[start:end])
        tokens = width * np.arange(1, len(width) + 1)
        size = int(np.searchsorted(tokens, max_tokens, side="right"))
        padded += int(tokens[size - 1])
        start += size
        bounds.append(start)
    return np.array(bounds, dtype=np.int64), padded
