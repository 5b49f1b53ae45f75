"""The sizes of the five tensors that a weight matrix is a chain of; numbers alone, no torch.

Tensor m of the chain is ``[d_(m-1), i_m, j_m, d_m]``: the rows of the matrix are the product of the ``i``, its columns
that of the ``j``, and the bonds ``d`` join a tensor to the next one; d_0 = d_5 = 1.

Source: arXiv 2203.01104, 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod

LENGTH = 5
CENTRE = 2
"""Place of the tensor that all experts share, counted from 0."""
OWN = (0, 1, 3, 4)
"""Places of the tensors that each expert has."""
_BY_SIZE = (2, 3, 1, 4, 0)
"""Places by the size of their factor, largest first."""


@lru_cache
def five_factors(number: int) -> tuple[int, ...]:
    """Five whole numbers whose product is ``number``, as even as can be, the largest in the middle.

    Of all ways to write it, that with the smallest sum, then with the smallest largest number. It gives the sizes of
    the authors' code: 3072 is 4 x 4 x 8 x 6 x 4, and 768 is 3 x 4 x 4 x 4 x 4.
    """
    fallen = min(_falling(number, LENGTH, number), key=lambda factors: (sum(factors), factors))
    placed = dict(zip(_BY_SIZE, fallen, strict=True))
    return tuple(placed[place] for place in range(LENGTH))


def _falling(number: int, length: int, largest: int) -> list[tuple[int, ...]]:
    """All ways to write a number as a product of ``length`` numbers, none above the one before it."""
    if length == 1:
        return [(number,)] if number <= largest else []
    return [
        (factor, *rest)
        for factor in range(1, min(number, largest) + 1)
        if number % factor == 0 and factor**length >= number
        for rest in _falling(number // factor, length - 1, factor)
    ]


@dataclass(frozen=True)
class ChainShape:
    """The chain of a matrix.

    Attributes:
        rows: i_1 to i_5.
        columns: j_1 to j_5.
        bonds: d_0 to d_5.
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    bonds: tuple[int, ...]

    @staticmethod
    def of(rows: int, columns: int, bond: int | None = None) -> ChainShape:
        """That of a matrix [rows, columns].

        Args:
            rows: I.
            columns: J.
            bond: largest bond; None: ``d_m = min(product of i j up to m, product of i j after m)``, which any matrix
                fits into.
        """
        i, j = five_factors(rows), five_factors(columns)
        pairs = [one * other for one, other in zip(i, j, strict=True)]
        full = [min(prod(pairs[:m]), prod(pairs[m:])) for m in range(LENGTH + 1)]
        return ChainShape(i, j, tuple(full if bond is None else [min(size, bond) for size in full]))

    def tensor(self, place: int) -> tuple[int, int, int, int]:
        """Shape of the tensor at a place from 0."""
        return self.bonds[place], self.rows[place], self.columns[place], self.bonds[place + 1]

    @property
    def centre(self) -> int:
        """Elements of the shared tensor."""
        return prod(self.tensor(CENTRE))

    @property
    def own(self) -> int:
        """Elements of an expert's four tensors."""
        return sum(prod(self.tensor(place)) for place in OWN)

    @property
    def sides(self) -> tuple[int, int, int]:
        """Products of i j before the centre, in it, and after it."""
        pairs = [one * other for one, other in zip(self.rows, self.columns, strict=True)]
        return prod(pairs[:CENTRE]), pairs[CENTRE], prod(pairs[CENTRE + 1 :])

    @property
    def contraction_flops(self) -> int:
        """FLOPs of :func:`smoe_ds.moe.matrix_chain.contract`, for one expert."""
        left, middle, right = self.sides
        _, d1, d2, d3, d4, _ = self.bonds
        outer = left * d1 * d2 + d3 * d4 * right
        return 2 * (outer + left * d2 * middle * d3 + left * middle * d3 * right)

    @property
    def contraction_kept(self) -> int:
        """Elements that the contraction keeps for the backward pass beside its result: an expert's tensors side by
        side with those of the others, and the products on the way."""
        left, middle, right = self.sides
        d2, d3 = self.bonds[CENTRE], self.bonds[CENTRE + 1]
        return self.own + left * d2 + d3 * right + left * middle * d3
