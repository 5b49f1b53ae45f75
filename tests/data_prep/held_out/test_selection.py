"""The held-out split on hashes: same sentences in every pair, no overlap, sizes, and independence of order."""

from __future__ import annotations

import numpy as np
import pytest

from data_prep.cleaning.hash_sets import distinct, first_occurrences, suspects, touches
from data_prep.held_out.selection import draw, held_out_sizes, keys_of, lowest, seeded_ranks
from data_prep.spec.sections import HeldOut


def _keys(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**63, count, dtype=np.uint64)


def test_first_occurrences() -> None:
    hashes = np.array([7, 3, 7, 7, 5, 3], np.uint64)
    assert first_occurrences(hashes).tolist() == [True, True, False, False, True, False]


@pytest.mark.parametrize("count", [0, 1, 7, 49, 50, 60])
def test_lowest_and_distinct_equal_sorting(count: int) -> None:
    ranks = _keys(50)
    assert sorted(lowest(ranks, count).tolist()) == sorted(np.argsort(ranks)[:count].tolist())
    assert distinct(np.concatenate([ranks, ranks[:count]])).tolist() == sorted(set(ranks.tolist()))
    assert distinct(ranks[:0]).tolist() == []


def test_touches_either_side() -> None:
    keys = np.array([[1, 2], [3, 4], [5, 6], [9, 9]], np.uint64)
    assert touches(keys, keys_of([np.array([[4, 0]], np.uint64), np.array([[5, 8]], np.uint64)])).tolist() == [
        False, True, True, False,
    ]  # fmt: skip
    assert not touches(keys, keys_of([])).any() and touches(keys[:0], np.sort(keys[:, 0])).shape == (0,)


def test_touches_equals_set_membership_also_of_keys_with_equal_low_bits() -> None:
    keys = _keys(4000).reshape(-1, 2)
    held_out = keys_of([keys[::50], keys[1::50] ^ np.uint64(1 << 40)])
    held = set(held_out.tolist())
    assert touches(keys, held_out).tolist() == [bool(held & set(pair)) for pair in keys.tolist()]


def test_pairs_draw_the_same_sentences_as_far_as_both_draw() -> None:
    keys = _keys(1000)
    here, there = keys[:800], np.flip(keys[100:])
    everywhere = np.ones(len(here), bool), np.ones(len(there), bool)
    drawn_here = set(here[draw(here, everywhere[0], 50, seed=1)].tolist())
    drawn_there = set(there[draw(there, everywhere[1], 50, seed=1)].tolist())
    assert len(drawn_here) == len(drawn_there) == 50
    assert len(drawn_here & drawn_there) >= 35  # 700 of 800 and 900 are shared


@pytest.mark.parametrize("count", [0, 1, 5, 30, 100])
@pytest.mark.parametrize("repeats", [1, 3, 40])
def test_draw_equals_sorting_all_sentences(count: int, repeats: int) -> None:
    rng = np.random.default_rng(count)
    keys = rng.permutation(np.repeat(_keys(60), repeats))
    eligible = rng.random(len(keys)) < 0.7
    order = sorted(
        set(keys[eligible].tolist()), key=lambda k: int(seeded_ranks(np.array([k], np.uint64), 9, "held_out")[0])
    )
    expected = [min(row for row in np.flatnonzero(eligible) if keys[row] == key) for key in order[:count]]
    assert np.flatnonzero(draw(keys, eligible, count, seed=9)).tolist() == sorted(expected)


@pytest.mark.parametrize("different", [1, 40, 4000])
def test_suspects_hold_all_rows_that_share_a_value(different: int) -> None:
    rng = np.random.default_rng(different)
    hashes = rng.integers(0, 2**63, different, dtype=np.uint64)[rng.integers(0, different, 5000)]
    values, counts = np.unique(hashes, return_counts=True)
    shared = set(np.flatnonzero(np.isin(hashes, values[counts > 1])).tolist())
    found = suspects(hashes).tolist()
    assert shared <= set(found) and found == sorted(set(found))
    fresh = _keys(5000)
    assert len(suspects(fresh)) < 1500 and suspects(fresh[:0]).tolist() == suspects(fresh[:1]).tolist() == []
    assert first_occurrences(hashes).tolist() == [
        row == hashes.tolist().index(h) for row, h in enumerate(hashes.tolist())
    ]


def test_draw_takes_the_first_pair_of_a_sentence_and_only_eligible_ones() -> None:
    keys = np.repeat(_keys(10), 3)
    eligible = np.tile([False, True, True], 10)
    drawn = draw(keys, eligible, 4, seed=3)
    assert drawn.sum() == 4 and np.flatnonzero(drawn).tolist() == [row for row in np.flatnonzero(drawn) if row % 3 == 1]
    assert draw(keys, eligible, 100, seed=3).sum() == 10
    assert draw(keys, eligible & False, 4, seed=3).sum() == 0


def test_another_seed_draws_others() -> None:
    keys, eligible = _keys(1000), np.ones(1000, bool)
    assert (draw(keys, eligible, 50, 1) & draw(keys, eligible, 50, 2)).sum() < 15


@pytest.mark.parametrize(
    ("sentences", "valid", "test", "expected"),
    [
        (100_000, True, True, (100, 200)),
        (6_000, True, True, (100, 200)),
        (3_000, True, True, (50, 100)),
        (1_000, True, False, (50, 0)),
        (1_000, False, True, (0, 50)),
        (10, True, True, (0, 0)),
        (0, True, True, (0, 0)),
        (100, False, False, (0, 0)),
    ],
)
def test_sizes(sentences: int, valid: bool, test: bool, expected: tuple[int, int]) -> None:
    held_out = HeldOut(valid=100, test=200, max_fraction=0.05)
    assert held_out_sizes(sentences, held_out, valid=valid, test=test) == expected
