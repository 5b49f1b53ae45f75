"""From ratios to the widths of a block's experts."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

WIDTH_MULTIPLE = 8
"""What unequal widths are multiples of, for the sake of matrix products."""


def widths_of(ratios: Sequence[float], d_ffn: int) -> tuple[int, ...]:
    """Widths in the given ratios whose mean is ``d_ffn``, in multiples of 8.

    Each is rounded down; what is missing goes, 8 at a time, to those that lost most, lower numbers first.

    Args:
        ratios: one for each expert, above 0.
        d_ffn: F.

    Raises:
        ValueError: there are no such widths; says why, with the remedy.

    Source: HMoE, arXiv 2408.10681, whose ratios 9, 11, ... 23 give 2304, 2816, ... 5888 for F = 4096.
    """
    total = len(ratios) * d_ffn
    if total % WIDTH_MULTIPLE:
        raise ValueError(
            f"{len(ratios)} experts of mean width d_ffn {d_ffn} have {total} in all, which is no multiple of "
            f"{WIDTH_MULTIPLE}; make d_ffn one"
        )
    units, whole = total // WIDTH_MULTIPLE, sum(map(Fraction, ratios))
    exact = [Fraction(ratio) * units / whole for ratio in ratios]
    rounded = [int(value) for value in exact]
    neediest = sorted(range(len(ratios)), key=lambda e: rounded[e] - exact[e])
    for expert in neediest[: units - sum(rounded)]:
        rounded[expert] += 1
    if 0 in rounded:
        expert = rounded.index(0)
        raise ValueError(f"ratio {ratios[expert]:g} of expert {expert} leaves it no width at d_ffn {d_ffn}; raise it")
    return tuple(WIDTH_MULTIPLE * value for value in rounded)
