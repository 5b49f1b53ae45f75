"""What is looked up ahead is what one look-up after the other gives, at any place and after any jump."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from smoe_ds.data.permutation import permute
from smoe_ds.data.seeding import mix64
from smoe_ds.data.upcoming import Upcoming
from tests.helpers.sentences import ComputedSentences

SIZES = {"eng-nso": 1, "nso-eng": 7, "eng-cat": 300, "cat-eng": 300, "eng-run": 10**6}
KEYS = np.array([3, 1, 4, 1, 5], dtype=np.uint64)


def directions() -> list[ComputedSentences]:
    return [ComputedSentences(name, size) for name, size in SIZES.items()]


def one_by_one(pairs: list[ComputedSentences], start: np.ndarray, count: np.ndarray) -> list[list[int]]:
    """Number, source length and target length of every sentence."""
    found = []
    for one, key, first, size in zip(pairs, KEYS, start.tolist(), count.tolist(), strict=True):
        for place in range(first, first + size):
            epoch, within = divmod(place, len(one))
            number = permute(within, len(one), mix64(key ^ mix64(np.array([epoch], np.uint64))))
            found.append([int(number[0]), int(one.src_lengths[number][0]), int(one.tgt_lengths[number][0])])
    return found


def taken(upcoming: Upcoming, start: np.ndarray, count: np.ndarray) -> list[list[int]]:
    return np.stack(upcoming.take(start, count), axis=1).tolist()


def test_windows_in_a_row_and_after_jumps_equal_single_look_ups() -> None:
    pairs, rng = directions(), np.random.default_rng(0)
    upcoming = Upcoming(pairs, KEYS)
    start = np.zeros(5, np.int64)
    for window in range(60):
        count = np.array([0, 3, 20, 2, 15]) + rng.integers(0, 2, 5)
        if window in (5, 31, 32, 50):
            start = rng.integers(0, 10_000, 5)
        assert taken(upcoming, start, count) == one_by_one(pairs, start, count)
        start = start + count


def test_windows_of_any_size_equal_single_look_ups() -> None:
    pairs, rng = directions(), np.random.default_rng(1)
    upcoming, start = Upcoming(pairs, KEYS), np.array([0, 5, 299, 0, 10**6 - 3])
    for _ in range(25):
        count = rng.integers(0, 40, 5) * rng.integers(0, 2, 5)
        assert taken(upcoming, start, count) == one_by_one(pairs, start, count)
        start = start + count


@pytest.mark.parametrize("jump", [0, 10**7])
def test_the_first_two_windows_look_up_no_more_than_they_need(jump: int) -> None:
    pairs = directions()
    upcoming, start, count = Upcoming(pairs, KEYS), np.full(5, jump), np.full(5, 30)
    for window in (1, 2):
        upcoming.take(start, count)
        start = start + count
        assert sum(one.src_lengths.looked_up for one in pairs) == window * 150


class Counting(ComputedSentences):
    calls = 0

    @property
    def src_lengths(self) -> Any:
        self.calls += 1
        return self._lengths

    @src_lengths.setter
    def src_lengths(self, lengths: Any) -> None:
        self._lengths = lengths


def test_few_directions_look_ahead_in_the_same_window() -> None:
    pairs = [Counting(f"eng-x{number:02d}", 10**6) for number in range(64)]
    upcoming = Upcoming(pairs, np.arange(64, dtype=np.uint64))
    start, count = np.zeros(64, np.int64), np.full(64, 100)
    looked_up, calls = [], []
    for _ in range(100):
        before = sum(one.src_lengths.looked_up for one in pairs), sum(one.calls for one in pairs)
        upcoming.take(start, count)
        start = start + count
        looked_up.append(sum(one.src_lengths.looked_up for one in pairs) - before[0])
        calls.append(sum(one.calls for one in pairs) - before[1])
    assert max(looked_up) <= 2 * 6400
    assert sum(calls[10:]) - 90 * 64 <= 1.2 * 90 * 64 / 8  # one call of each in every window is this test's own
