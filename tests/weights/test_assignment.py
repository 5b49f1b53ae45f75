"""Assignments against all that there are, and against a sort where each row has a column of its own."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from smoe_ds.weights.assignment import assign


@pytest.mark.parametrize(
    ("rows", "columns", "room"), [(1, 1, 1), (5, 5, 1), (4, 6, 1), (6, 2, 3), (6, 3, 2), (5, 3, 2)]
)
def test_no_assignment_is_cheaper(rows: int, columns: int, room: int) -> None:
    draw = np.random.default_rng(rows * 100 + columns)
    for case in range(20):
        cost = draw.normal(size=(rows, columns)) if case % 2 else draw.integers(-2, 3, (rows, columns)).astype(float)
        found = assign(cost, room)
        assert max(Counter(found.tolist()).values()) <= room
        allowed = (
            ways for ways in itertools.product(range(columns), repeat=rows) if max(Counter(ways).values()) <= room
        )
        least = min(sum(cost[row, column] for row, column in enumerate(ways)) for ways in allowed)
        assert cost[np.arange(rows), found].sum() == pytest.approx(least, abs=1e-12)


def test_a_permutation_is_found_again() -> None:
    draw = np.random.default_rng(3)
    vectors, order = draw.normal(size=(90, 7)), draw.permutation(90)
    assert assign(-vectors[order] @ vectors.T).tolist() == order.tolist()
