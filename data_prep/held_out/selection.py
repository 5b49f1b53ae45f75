"""Which sentence pairs are training, validation and test text: functions of hashes, without files.

What is held out anywhere is held out everywhere: no side of a training pair has the key of a side of a held-out pair,
whatever the pair of languages; nor has a validation pair that of a test pair.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data_prep.cleaning.hash_sets import distinct
from data_prep.spec.sections import HeldOut
from smoe_ds.data.seeding import mix64, seeded_key


def keys_of(texts: Sequence[np.ndarray]) -> np.ndarray:
    """All keys of both sides of several texts (uint64 [N, 2] each), sorted, without repetition."""
    return distinct(np.concatenate([np.empty(0, np.uint64), *(text.reshape(-1) for text in texts)]))


def seeded_ranks(keys: np.ndarray, seed: int, purpose: str) -> np.ndarray:
    """A random order of keys that depends on each key, the seed and the purpose alone, uint64 [N]."""
    return mix64(keys ^ np.uint64(seeded_key(seed, purpose)))


def lowest(ranks: np.ndarray, count: int) -> np.ndarray:
    """Where the ``count`` lowest of different ranks are, in any order; all if there are not as many."""
    if count >= len(ranks):
        return np.arange(len(ranks))
    return np.argpartition(ranks, count)[:count]


def held_out_sizes(num_sentences: int, held_out: HeldOut, *, valid: bool, test: bool) -> tuple[int, int]:
    """How many validation and test sentences to draw from a pair.

    Args:
        num_sentences: distinct sentences of the pair.
        held_out: the specification's numbers.
        valid: the pair has no validation text of its own.
        test: the pair has no test text of its own.

    Returns:
        validation and test sentences, scaled down together where they exceed ``max_fraction`` of the sentences.
    """
    wanted_valid, wanted_test = held_out.valid * valid, held_out.test * test
    budget = int(held_out.max_fraction * num_sentences)
    wanted = wanted_valid + wanted_test
    if wanted <= budget:
        return wanted_valid, wanted_test
    test_size = budget * wanted_test // wanted
    return min(wanted_valid, budget - test_size), test_size


def draw(keys: np.ndarray, eligible: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Draws the ``count`` distinct keys that come first in the seeded order.

    Two pairs that share sentences draw the same ones, as far as both draw.

    Args:
        keys: keys of the pivot's side, uint64 [N].
        eligible: pairs that may be drawn, bool [N].
        count: keys to draw; fewer if there are not as many.
        seed: the specification's seed.

    Returns:
        bool [N], true for the first eligible pair of each key drawn.
    """
    rows = np.flatnonzero(eligible)
    ranks = seeded_ranks(keys[rows], seed, "held_out")
    number = 2 * count + 1
    while True:  # a sentence may occur often, hence more rows than sentences
        some = np.sort(lowest(ranks, number))
        different, first = np.unique(ranks[some], return_index=True)
        if len(different) > count or number >= len(rows):  # one more, since of the last some rows may be missing
            break
        number *= 4
    mask = np.zeros(len(keys), bool)
    mask[rows[some[first[:count]]]] = True
    return mask
