"""Temperature sampling: the weight of each language or direction, and how many sentences of each a window draws.

Weights are computed in decimal arithmetic rather than with the processor's ``pow``, and shares are integers: ranks on
different processors must agree on every draw to the last bit.
"""

from __future__ import annotations

import decimal
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from smoe_ds.data.seeding import random_words

# Shares are counted in units of 2^-64, the range of one random word.
WHOLE = 2**64
_DIGITS = 50


def temperature_weights(sizes: Sequence[int], temperature: float) -> list[decimal.Decimal]:
    """n^(1/T), to 50 digits.

    Args:
        sizes: sentences n, each at least 1.
        temperature: T >= 1; with 1 the weights are the sizes, with infinity all are 1.

    Source: Arivazhagan et al., "Massively multilingual neural machine translation in the wild" (2019), section 4.2.
    """
    with decimal.localcontext() as context:
        context.prec = _DIGITS
        return [(decimal.Decimal(n).ln() / decimal.Decimal(temperature)).exp() for n in sizes]


def mixture_shares(sizes: Sequence[int], temperature: float) -> list[int]:
    """Share of each direction, p ~ n^(1/T), in units of 1 / ``WHOLE``.

    Args:
        sizes: sentences n per direction, each at least 1.
        temperature: T >= 1; 1 is proportional to size, infinity uniform.

    Returns:
        Positive integers that sum to ``WHOLE``.
    """
    weights = temperature_weights(sizes, temperature)
    with decimal.localcontext() as context:
        context.prec = _DIGITS
        total = sum(weights)
        shares = [max(1, int(weight / total * WHOLE)) for weight in weights]
    largest = max(range(len(shares)), key=shares.__getitem__)
    shares[largest] += WHOLE - sum(shares)
    return shares


def draw_counts(shares: Sequence[int], draws: int, *, seed: int, window: int) -> NDArray[np.int64]:
    """Sentences to take from each direction in one window.

    Systematic sampling: the directions lie side by side on a line, and ``draws`` points at equal distances, shifted
    together by one random number, are laid over it. Every window thus holds each direction in its exact share, rounded
    up or down at random such that the mean over windows is the share itself.

    Args:
        shares: as :func:`mixture_shares` gives them, D of them.
        draws: sentences in the window.
        seed: seed of the run.
        window: number of the window, from 0.

    Returns:
        int64 [D], sums to ``draws``.
    """
    shift = int(random_words(1, seed, "mixture", window)[0])
    counts, end, taken = [], 0, 0
    for share in shares:
        end += share
        before_end = -((shift - end * draws) // WHOLE)  # points below end: ceil((end * draws - shift) / WHOLE)
        counts.append(before_end - taken)
        taken = before_end
    return np.array(counts, dtype=np.int64)
