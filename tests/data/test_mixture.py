from __future__ import annotations

import math

import numpy as np
import pytest

from smoe_ds.data.mixture import WHOLE, draw_counts, mixture_shares, temperature_weights
from smoe_ds.data.seeding import random_words

SIZES = [135, 1_500, 28_000, 1_000_000, 1]


@pytest.mark.parametrize("temperature", [1.0, 1.5, 5.0, 100.0])
def test_shares_equal_the_formula(temperature: float) -> None:
    weights = [n ** (1 / temperature) for n in SIZES]
    shares = mixture_shares(SIZES, temperature)
    assert sum(shares) == WHOLE
    for share, weight in zip(shares, weights, strict=True):
        assert share / WHOLE == pytest.approx(weight / sum(weights), rel=1e-9)


@pytest.mark.parametrize("temperature", [1.0, 1.5, 5.0, 100.0])
def test_weights_are_powers(temperature: float) -> None:
    sizes = [1, 2, 3, 135, 28_000, 1_000_003, 2**53 - 1]
    for weight, size in zip(temperature_weights(sizes, temperature), sizes, strict=True):
        assert float(weight) == pytest.approx(size ** (1 / temperature), rel=1e-14)
        assert temperature > 1 or float(weight) == size


def test_infinite_temperature_is_uniform() -> None:
    assert np.array(mixture_shares(SIZES, math.inf)) / WHOLE == pytest.approx(np.full(5, 0.2))


def test_no_share_is_zero() -> None:
    shares = mixture_shares([1, 2**50, 2**51], 1.0)
    assert min(shares) > 0 and sum(shares) == WHOLE


def test_every_window_holds_every_direction_in_its_share() -> None:
    shares = mixture_shares(SIZES, 2.0)
    exact = np.array(shares, dtype=float) / WHOLE * 1000
    for window in range(200):
        counts = draw_counts(shares, 1000, seed=3, window=window)
        assert counts.sum() == 1000
        assert (np.abs(counts - exact) < 1).all()


def test_rare_directions_come_in_their_share_on_average() -> None:
    shares = mixture_shares(SIZES, 1.0)
    exact = np.array(shares, dtype=float) / WHOLE * 10
    windows = 5000
    counts = np.array([draw_counts(shares, 10, seed=1, window=window) for window in range(windows)])
    # A count is one of two neighbouring integers, so its variance is at most 1/4.
    assert (np.abs(counts.mean(axis=0) - exact) < 4 * np.sqrt(0.25 / windows)).all()
    assert counts[:, 2].max() == 1 and counts[:, 2].min() == 0  # 0.27 of a sentence per window


def test_counts_equal_points_laid_one_by_one() -> None:
    shares = mixture_shares([3, 7, 20, 1], 1.3)
    ends = [sum(shares[: i + 1]) for i in range(len(shares))]
    for window in range(20):
        counts = draw_counts(shares, 50, seed=9, window=window)
        shift = int(random_words(1, 9, "mixture", window)[0])
        assert counts.tolist() == _lay(ends, 50, shift)


def _lay(ends: list[int], draws: int, shift: int) -> list[int]:
    counts = [0] * len(ends)
    for point in range(draws):
        place = point * WHOLE + shift
        counts[next(i for i, end in enumerate(ends) if place < end * draws)] += 1
    return counts


def test_windows_and_seeds_differ_and_repeat() -> None:
    shares = mixture_shares([5] * 100, 1.0)
    draws = [tuple(draw_counts(shares, 50, seed=seed, window=window)) for seed in (1, 2) for window in range(10)]
    assert len(set(draws)) > 1
    assert draws[0] == tuple(draw_counts(shares, 50, seed=1, window=0))
