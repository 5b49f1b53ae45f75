"""Batches by length: everything once, within the budget, similar lengths together."""

from __future__ import annotations

import random

import pytest

from smoe_ds.decode.batching import batches_by_length


@pytest.mark.parametrize(("max_tokens", "copies"), [(1, 1), (50, 1), (50, 5), (400, 5), (10**6, 5)])
def test_everything_once_and_within_the_budget(max_tokens: int, copies: int) -> None:
    draw = random.Random(1)
    lengths = [draw.randint(1, 40) for _ in range(200)]
    batches = batches_by_length(lengths, max_tokens, copies)
    assert sorted(i for batch in batches for i in batch) == list(range(200))
    for batch in batches:
        assert len(batch) == 1 or max(lengths[i] for i in batch) * len(batch) * copies <= max_tokens
    in_order = [lengths[i] for batch in batches for i in batch]
    assert in_order == sorted(lengths, reverse=True)


def test_batches_are_as_full_as_they_can_be() -> None:
    assert batches_by_length([3, 9, 3, 3], 9) == [[1], [0, 2, 3]]
    assert batches_by_length([], 9) == []
