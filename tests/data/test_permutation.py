from __future__ import annotations

import numpy as np
import pytest

from smoe_ds.data.permutation import permute


def permutation(n: int, key: int) -> np.ndarray:
    return permute(np.arange(n), n, key)


@pytest.mark.parametrize("key", [0, 1, 2**64 - 1])
def test_is_a_bijection_for_every_small_size(key: int) -> None:
    for n in range(1, 400):
        assert sorted(permutation(n, key).tolist()) == list(range(n))


@pytest.mark.parametrize("n", [2**16 - 1, 2**16, 2**16 + 1, 99_991, 300_000])
def test_is_a_bijection_for_large_sizes(n: int) -> None:
    assert (np.bincount(permutation(n, 7), minlength=n) == 1).all()


@pytest.mark.parametrize("n", [50_000_000, 2**40 + 3, 2**51])
def test_huge_sizes_stay_in_range_without_collisions(n: int) -> None:
    position = np.unique(np.linspace(0, n - 1, 10_000, dtype=np.int64))
    index = permute(position, n, 5)
    assert len(np.unique(index)) == len(position)
    assert index.min() >= 0 and index.max() < n
    assert abs(index.mean() / n - 0.5) < 0.02


def test_many_permutations_in_one_call_equal_one_call_each() -> None:
    sizes = np.array([1, 2, 3, 10, 1000, 50_000_000])
    keys = np.array([3, 1, 4, 1, 5, 9], dtype=np.uint64)
    together = permute(sizes - 1, sizes, keys)
    apart = [int(permute(size - 1, size, key)[0]) for size, key in zip(sizes, keys, strict=True)]
    assert together.tolist() == apart
    count = np.array([1, 0, 3, 10, 1000, 40_000])
    several = np.concatenate([np.arange(places) for places in count])
    apart = np.concatenate([permute(np.arange(k), n, key) for n, key, k in zip(sizes, keys, count, strict=True)])
    assert permute(several, sizes, keys, count).tolist() == apart.tolist()


@pytest.mark.parametrize("n", [2, 3, 4])
def test_all_permutations_are_equally_likely(n: int) -> None:
    keys = 6000
    orders = permute(np.tile(np.arange(n), keys), n, np.repeat(np.arange(keys, dtype=np.uint64), n)).reshape(keys, n)
    _, counts = np.unique(orders, axis=0, return_counts=True)
    kinds = {2: 2, 3: 6, 4: 24}[n]
    assert len(counts) == kinds
    chi_square = ((counts - keys / kinds) ** 2 / (keys / kinds)).sum()
    assert chi_square < kinds - 1 + 5 * np.sqrt(2 * (kinds - 1))


def test_places_are_uniform_and_neighbours_independent() -> None:
    n, keys = 100, 2000
    orders = permute(np.tile(np.arange(n), keys), n, np.repeat(np.arange(keys, dtype=np.uint64), n)).reshape(keys, n)
    expected = keys / n
    for position in (0, 1, 50, 99):
        chi_square = ((np.bincount(orders[:, position], minlength=n) - expected) ** 2 / expected).sum()
        assert chi_square < n + 5 * np.sqrt(2 * n)
    assert abs(np.corrcoef(orders[:, 0], orders[:, 1])[0, 1]) < 0.1
    assert abs(np.corrcoef(orders[0], orders[1])[0, 1]) < 0.4


def test_order_is_pinned() -> None:
    # A change here changes the order of every run: positions of older releases must then be refused (position.FORMAT).
    assert permutation(10, 12345).tolist() == [7, 3, 4, 2, 8, 6, 0, 1, 9, 5]


@pytest.mark.parametrize("position", [-1, 5])
def test_refuses_positions_out_of_range(position: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        permute(position, 5, 0)
