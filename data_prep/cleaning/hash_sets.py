"""Arrays of hashes as sets: repetitions, membership, what is different; none of them sorts more than it must."""

from __future__ import annotations

import numpy as np

_TABLE = 1 << 24  # bytes of the table that sorts out most keys


def first_occurrences(hashes: np.ndarray) -> np.ndarray:
    """Where each value stands for the first time, bool [N]."""
    mask = np.ones(len(hashes), bool)
    rows = suspects(hashes)
    mask[rows] = False
    mask[rows[np.unique(hashes[rows], return_index=True)[1]]] = True
    return mask


def suspects(hashes: np.ndarray) -> np.ndarray:
    """Rows that may share their value with another one, int [M], rising; few of those that do not are among them.

    Sorting these alone is several times faster than sorting all.
    """
    numbers = np.arange(len(hashes), dtype=np.int32)
    size = 1 << min(26, (8 * len(hashes)).bit_length())
    buckets = (hashes & np.uint64(size - 1)).astype(np.int32)
    owner = np.empty(size, np.int32)
    owner[buckets] = numbers
    shared = np.zeros(size, bool)
    shared[buckets[owner[buckets] != numbers]] = True
    return np.flatnonzero(shared[buckets])


def distinct(values: np.ndarray) -> np.ndarray:
    """The different values, sorted; `numpy.unique` takes ten times as long for millions of hashes."""
    values = np.sort(values)
    new = np.ones(len(values), bool)
    new[1:] = values[1:] != values[:-1]
    return values[new]


def touches(keys: np.ndarray, held_out: np.ndarray) -> np.ndarray:
    """Pairs of which either side is among the held-out keys.

    Args:
        keys: keys of both sides, uint64 [N, 2].
        held_out: keys, uint64 [M], sorted.

    Returns:
        bool [N].
    """
    low = np.uint64(_TABLE - 1)
    table = np.zeros(_TABLE, bool)
    table[held_out & low] = True
    found: np.ndarray = table[keys & low]  # few, and only these are looked up
    found[found] = is_among(keys[found], held_out)
    return found[:, 0] | found[:, 1]


def is_among(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which values, [N], are among others, [M], which are sorted; bool [N]."""
    if not len(others):
        return np.zeros(len(values), bool)
    places = np.minimum(np.searchsorted(others, values), len(others) - 1)
    found: np.ndarray = others[places] == values
    return found
