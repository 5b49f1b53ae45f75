"""Seeded permutation of ``range(n)`` evaluated at single positions: no table, whatever ``n`` is.

An index is written as two digits ``(left, right)`` of the smallest near-square grid that holds ``n``; a Feistel network
adds to each digit in turn a keyed hash of the other, which is a bijection of the grid. The grid holds fewer than
``sqrt(n) + 1`` indices too many; one that lands on such an index is sent through the network again (cycle walking).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from smoe_ds.data.seeding import UInt64, mix64

# Four additions per digit: with fewer, the permutations of the smallest n are visibly not equally likely.
_ROUNDS = 8
_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1


def permute(position: ArrayLike, n: ArrayLike, key: ArrayLike) -> NDArray[np.int64]:
    """Where each position goes under the permutation of ``range(n)`` that ``key`` names.

    Args:
        position: positions, ``0 <= position < n``; shape [N].
        n: sizes of the permuted ranges, ``1 <= n < 2**52``; a number or [N], so that many permutations go in one call.
        key: 64-bit keys; a number or [N].

    Returns:
        int64 [N], ``0 <= result < n``; for a fixed ``n`` and ``key`` each value appears for exactly one position.

    Raises:
        ValueError: a position outside its range.
    """
    position = np.atleast_1d(np.asarray(position, dtype=np.int64))
    size = np.broadcast_to(np.asarray(n, dtype=np.int64), position.shape)
    if ((position < 0) | (position >= size)).any():
        raise ValueError("permute: a position lies outside range(n)")
    sizes = size.astype(np.uint64)
    keys = np.broadcast_to(np.asarray(key, dtype=np.uint64), position.shape)
    index = _feistel(position.astype(np.uint64), sizes, keys)
    outside = np.flatnonzero(index >= sizes)
    while outside.size:
        index[outside] = _feistel(index[outside], sizes[outside], keys[outside])
        outside = outside[index[outside] >= sizes[outside]]
    return index.astype(np.int64)


def _feistel(index: UInt64, sizes: UInt64, keys: UInt64) -> UInt64:
    """One pass of the network over the grid of ``ceil(sqrt(n))`` x ``ceil(n / ceil(sqrt(n)))`` indices."""
    lefts = np.ceil(np.sqrt(sizes)).astype(np.uint64)
    rights = (sizes + lefts - np.uint64(1)) // lefts
    left, right = np.divmod(index, rights)
    for pass_number in range(_ROUNDS):
        round_keys = mix64(keys + np.uint64((pass_number + 1) * _GOLDEN & _MASK))
        if pass_number % 2 == 0:
            left = (left + mix64(round_keys ^ right) % lefts) % lefts
        else:
            right = (right + mix64(round_keys ^ left) % rights) % rights
    return left * rights + right
