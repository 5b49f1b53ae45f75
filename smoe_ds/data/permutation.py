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
_AT_A_TIME = 1 << 14  # what fits the processor's cache: twice the speed
_MULTIPLIER = np.uint64(2862933555777941757)
_HALF = np.uint64(32)


def permute(
    position: ArrayLike, n: ArrayLike, key: ArrayLike, count: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Where each position goes under the permutation of ``range(n)`` that ``key`` names.

    Args:
        position: positions, ``0 <= position < n``; shape [N].
        n: sizes of the permuted ranges, ``1 <= n < 2**52``; a number or [G], so that many permutations go in one call.
        key: 64-bit keys; a number or [G].
        count: positions of each permutation, which lie one after the other, [G]; None: G is N, one position each.

    Returns:
        int64 [N], ``0 <= result < n``; for a fixed ``n`` and ``key`` each value appears for exactly one position.

    Raises:
        ValueError: a position outside its range.
    """
    position = np.atleast_1d(np.asarray(position, dtype=np.int64))
    if count is None:
        n, key = (np.broadcast_to(values, position.shape) for values in (n, key))
        count = np.ones(len(position), np.int64)
    sizes, keys = np.atleast_1d(np.asarray(n, np.int64)), np.atleast_1d(np.asarray(key, np.uint64))
    lefts = np.ceil(np.sqrt(sizes)).astype(np.int64)
    rights = (sizes + lefts - 1) // lefts
    size, left, right, keyed = (
        np.repeat(values.astype(np.uint64), count) for values in (sizes, lefts, rights, mix64(keys))
    )
    index = position.astype(np.uint64)
    if (index >= size).any():  # a negative one is huge now
        raise ValueError("permute: a position lies outside range(n)")
    pieces = [slice(start, start + _AT_A_TIME) for start in range(0, len(index), _AT_A_TIME)]
    for piece in pieces:
        index[piece] = _feistel(index[piece], left[piece], right[piece], keyed[piece])
    outside = np.flatnonzero(index >= size)
    while outside.size:
        index[outside] = _feistel(index[outside], left[outside], right[outside], keyed[outside])
        outside = outside[index[outside] >= size[outside]]
    return index.astype(np.int64)


def _feistel(index: UInt64, lefts: UInt64, rights: UInt64, keys: UInt64) -> UInt64:
    """One pass of the network over the grid of ``lefts`` x ``rights`` indices, both below 2^32."""
    left = index // rights
    right = index - left * rights
    for pass_number in range(_ROUNDS):
        round_keys = keys + np.uint64((pass_number + 1) * _GOLDEN & _MASK)
        if pass_number % 2 == 0:
            left = _add(left, _hash_below(lefts, right, round_keys), lefts)
        else:
            right = _add(right, _hash_below(rights, left, round_keys), rights)
    return left * rights + right


def _add(digit: UInt64, summand: UInt64, base: UInt64) -> UInt64:
    """``(digit + summand) % base`` of numbers below ``base``."""
    total = digit + summand
    return np.minimum(total, total - base)  # a difference below zero wraps around to a huge number


def _hash_below(base: UInt64, digit: UInt64, keys: UInt64) -> UInt64:
    """Keyed hash of a digit, uniform below ``base`` < 2^32: two multiplications, of which the upper half is used.

    Source: the multiplier is L'Ecuyer's for generators modulo 2^64, "Tables of linear congruential generators of
    different sizes and good lattice structure" (1999).
    """
    x = digit * _MULTIPLIER + keys
    x ^= x >> _HALF
    x *= _MULTIPLIER
    x >>= _HALF
    x *= base
    x >>= _HALF
    return x
