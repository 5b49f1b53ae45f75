"""How many sentence pairs a window draws where the run does not say."""

from __future__ import annotations

from collections.abc import Sequence

from smoe_ds.data.mixture import WHOLE

_LEAST, _BUDGET, _PER_TOKEN = 98_304, 8192, 16


def usual_window(max_tokens: int, sizes: Sequence[int], shares: Sequence[int]) -> int:
    """Sentence pairs that make some 450 micro-batches or more: few are then padded by more than 5 % in the mean.

    Copies of a sentence pair have the same lengths and so come to lie in the same micro-batch. Beyond 98,304 pairs a
    window therefore only grows while it draws no direction more often than that has pairs.

    Args:
        max_tokens: budget of a micro-batch.
        sizes: sentence pairs of each direction, each at least 1.
        shares: share of each direction in units of 1 / ``WHOLE``.
    """
    for_budget = _LEAST + _PER_TOKEN * max(0, max_tokens - _BUDGET)
    without_copies = min(size * WHOLE // share for size, share in zip(sizes, shares, strict=True))
    return max(_LEAST, min(for_budget, without_copies))
