from __future__ import annotations

import numpy as np
import pytest

from smoe_ds.data.packing import Packing, _cut, _shuffle, pack
from smoe_ds.data.sorting import stable_order


def lognormal(count: int, *, mean: float = 3.2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    src = np.clip(np.exp(rng.normal(mean, 0.6, count)), 1, 250).astype(np.int64)
    tgt = np.clip(src * np.exp(rng.normal(0.05, 0.2, count)), 1, 250).astype(np.int64)
    return src + 2, tgt + 1


def padded_tokens(packing: Packing, src: np.ndarray, tgt: np.ndarray) -> list[int]:
    batches = [packing[number] for number in range(len(packing))]
    return [len(rows) * int(src[rows].max() + tgt[rows].max()) for rows in batches]


@pytest.mark.parametrize("count", [1, 2, 7, 100, 3000])
@pytest.mark.parametrize("max_tokens", [600, 1000, 8192])
def test_every_pair_once_within_the_budget(count: int, max_tokens: int) -> None:
    src, tgt = lognormal(count, seed=count)
    packing = pack(src, tgt, max_tokens, 1)
    assert sorted(packing.rows.tolist()) == list(range(count))
    assert all(len(packing[number]) for number in range(len(packing)))
    assert max(padded_tokens(packing, src, tgt)) <= max_tokens


def test_no_pair_makes_no_batch() -> None:
    assert len(pack(np.zeros(0, np.int64), np.zeros(0, np.int64), 100, 1)) == 0


def test_pair_that_fills_the_budget_alone() -> None:
    packing = pack(np.array([60, 60, 60]), np.array([40, 40, 40]), 100, 1)
    assert [len(packing[number]) for number in range(3)] == [1, 1, 1]


def test_pair_above_the_budget_is_refused() -> None:
    with pytest.raises(ValueError, match="max_tokens 100"):
        pack(np.array([60, 61]), np.array([40, 40]), 100, 1)


def test_equal_lengths_fill_batches_wholly() -> None:
    packing = pack(np.full(1000, 12), np.full(1000, 8), 400, 1)
    assert np.diff(packing.bounds).tolist() == [20] * 50


@pytest.mark.parametrize(
    ("window", "max_tokens", "mean", "least"),
    [(16384, 4096, 3.2, 0.95), (65536, 8192, 3.2, 0.9655), (65536, 8192, 2.4, 0.957), (16384, 8192, 3.2, 0.929)],
)
def test_little_padding_and_full_batches(window: int, max_tokens: int, mean: float, least: float) -> None:
    src, tgt = lognormal(window, mean=mean)
    packing = pack(src, tgt, max_tokens, 1)
    padded = np.array(padded_tokens(packing, src, tgt))
    assert (src + tgt).sum() / padded.sum() >= least
    assert padded.mean() / max_tokens >= 0.97


def test_beats_sorting_by_source_then_target() -> None:
    src, tgt = lognormal(16384)
    order = np.lexsort((tgt, src))
    bounds = _cut(src[order], tgt[order], np.ones_like(order), 8192)
    assert len(pack(src, tgt, 8192, 1)) < 0.95 * (len(bounds) - 1)


@pytest.mark.parametrize("largest_group", [1, 3, 200])
@pytest.mark.parametrize("max_tokens", [512, 1000, 8192])
def test_cut_equals_adding_pair_by_pair(largest_group: int, max_tokens: int) -> None:
    src, tgt = lognormal(700, seed=4)
    count = np.random.default_rng(largest_group).integers(1, largest_group + 1, 700)
    expected = _cut_naively(np.repeat(src, count).tolist(), np.repeat(tgt, count).tolist(), max_tokens)
    assert _cut(src, tgt, count, max_tokens).tolist() == expected


def _cut_naively(src: list[int], tgt: list[int], max_tokens: int) -> list[int]:
    bounds, start = [0], 0
    for end in range(1, len(src) + 1):
        if end == len(src) or (end + 1 - start) * (max(src[start : end + 1]) + max(tgt[start : end + 1])) > max_tokens:
            bounds.append(end)
            start = end
    return bounds


@pytest.mark.parametrize("most", [0, 5, 2**16 - 1, 2**16, 2**40])
def test_stable_order_equals_numpys(most: int) -> None:
    keys = np.random.default_rng(0).integers(0, most + 1, 5000)
    assert stable_order(keys).tolist() == np.argsort(keys, kind="stable").tolist()


@pytest.mark.parametrize("keys", [[-1], [3, -(2**40), 2**40]])
def test_stable_order_refuses_negative_keys(keys: list[int]) -> None:
    with pytest.raises(ValueError, match=f"key {min(keys)}, expected none below 0"):
        stable_order(np.array(keys))


def test_shuffle_puts_every_number_everywhere() -> None:
    orders = np.array([_shuffle(10, seed) for seed in range(4000)])
    assert (np.sort(orders, axis=1) == np.arange(10)).all()
    for place in range(10):
        counts = np.bincount(orders[:, place], minlength=10)
        assert ((counts - 400) ** 2 / 400).sum() < 9 + 5 * np.sqrt(18)


def test_sizes_of_batches() -> None:
    src, tgt = lognormal(500)
    packing = pack(src, tgt, 2000, 1)
    batches = [src[packing[number]] for number in range(len(packing))]
    assert packing.sizes(src).tokens.tolist() == [int(batch.sum()) for batch in batches]
    assert packing.sizes(src).padded == sum(len(batch) * int(batch.max()) for batch in batches)


def test_order_is_a_function_of_the_key() -> None:
    src, tgt = lognormal(2000)
    first, again, other = (pack(src, tgt, 2000, seed, "pack", 0) for seed in (1, 1, 2))
    assert (first.rows == again.rows).all() and (first.bounds == again.bounds).all()
    assert (first.rows != other.rows).any()


def test_neither_length_nor_number_orders_batches_or_pairs() -> None:
    src, tgt = lognormal(16384)
    packing = pack(src, tgt, 2000, 1)
    means = np.array([src[packing[number]].mean() for number in range(len(packing))])
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.15
    within = np.concatenate([np.diff(packing[number]) for number in range(len(packing))])
    assert abs((within > 0).mean() - 0.5) < 0.05


def test_equal_lengths_mix_numbers_over_batches() -> None:
    packing = pack(np.full(1000, 10), np.full(1000, 10), 400, 1)
    means = [packing[number].mean() for number in range(len(packing))]
    assert np.std(means) < 2 * 1000 / np.sqrt(12) / np.sqrt(20)
