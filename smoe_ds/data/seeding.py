"""Random numbers that are a pure function of what they are for: a seed, a purpose, integers such as a window's number.

Nothing here keeps state, and nothing depends on the version of NumPy, on the processor or on who draws first: only the
raw words of counter-based Philox and of SplitMix64's finaliser are used, whose values are fixed for good.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
from numpy.typing import NDArray

UInt64 = NDArray[np.uint64]

_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def seeded_key(*parts: int | str, bits: int = 64) -> int:
    """Key of ``bits`` bits for the given purpose; different parts give unrelated keys.

    Args:
        parts: e.g. ``(seed, "mixture", window)``; integers of any size.
        bits: width of the key, a multiple of 8.
    """
    name = json.dumps(parts).encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=bits // 8).digest(), "little")


def random_words(count: int, *parts: int | str) -> UInt64:
    """``count`` uniform 64-bit words, the Philox sequence keyed by ``parts`` (see :func:`seeded_key`)."""
    return np.random.Philox(key=seeded_key(*parts, bits=128)).random_raw(count)


def mix64(x: UInt64) -> UInt64:
    """Finaliser of SplitMix64: a bijection of 64-bit words in which each bit of the result hangs on each bit of ``x``.

    Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014), constants of variant 13.
    """
    x = (x ^ (x >> np.uint64(30))) * _MIX_1
    x = (x ^ (x >> np.uint64(27))) * _MIX_2
    return x ^ (x >> np.uint64(31))
