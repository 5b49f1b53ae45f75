"""A weight matrix into a chain of five tensors, and back; sizes as in :mod:`smoe_ds.moe.chain_shapes`."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from smoe_ds.moe.chain_shapes import CENTRE, LENGTH, ChainShape

_PAIRED = [place for m in range(LENGTH) for place in (m, LENGTH + m)]  # i1 .. i5 j1 .. j5 -> i1 j1 i2 j2 ...
_APART = [*range(0, 2 * LENGTH, 2), *range(1, 2 * LENGTH, 2)]


def factor(matrix: Tensor, shape: ChainShape) -> list[Tensor]:
    """The chain of a matrix by singular value decompositions, from both ends to the centre.

    The outer tensors are isometries, so that the centre holds all singular values. With full bonds the chain is the
    matrix to rounding; smaller ones leave out the smallest singular values.

    Args:
        matrix: [I, J]; float64 is computed in.
        shape: of its chain.

    Returns:
        Five tensors in the dtype of the matrix.

    Source: arXiv 2203.01104, 3.1 (its algorithm 1 goes from one end to the other).
    """
    rest = matrix.double().reshape(*shape.rows, *shape.columns).permute(_PAIRED)
    tensors: list[Tensor] = [rest] * LENGTH
    for place in range(CENTRE):
        before, i, j, after = shape.tensor(place)
        u, s, v = torch.linalg.svd(rest.reshape(before * i * j, -1), full_matrices=False)
        tensors[place] = u[:, :after].reshape(before, i, j, after)
        rest = s[:after, None] * v[:after]
    for place in range(LENGTH - 1, CENTRE, -1):
        before, i, j, after = shape.tensor(place)
        u, s, v = torch.linalg.svd(rest.reshape(-1, i * j * after), full_matrices=False)
        tensors[place] = v[:before].reshape(before, i, j, after)
        rest = u[:, :before] * s[:before]
    tensors[CENTRE] = rest.reshape(shape.tensor(CENTRE))
    return [tensor.to(matrix.dtype).contiguous() for tensor in tensors]


def contract(tensors: Sequence[Tensor]) -> Tensor:
    """The matrices [E, I, J] of chains with a common centre.

    Args:
        tensors: five, in order: [d, i, j, d'] the centre, [E, d, i, j, d'] the others.
    """
    first, second, centre, fourth, fifth = tensors
    number, _, i1, j1, d1 = first.shape
    _, _, i2, j2, d2 = second.shape
    _, i3, j3, d3 = centre.shape
    _, _, i4, j4, d4 = fourth.shape
    _, _, i5, j5, _ = fifth.shape
    left = first.reshape(number, i1 * j1, d1) @ second.reshape(number, d1, i2 * j2 * d2)
    right = fourth.reshape(number, d3 * i4 * j4, d4) @ fifth.reshape(number, d4, i5 * j5)
    middle = left.reshape(-1, d2) @ centre.reshape(d2, i3 * j3 * d3)
    whole = middle.reshape(number, -1, d3) @ right.reshape(number, d3, -1)
    rows, columns = (i1, i2, i3, i4, i5), (j1, j2, j3, j4, j5)
    paired = [size for pair in zip(rows, columns, strict=True) for size in pair]
    apart = whole.reshape(number, *paired).permute(0, *(place + 1 for place in _APART))
    return apart.reshape(number, prod(rows), prod(columns))


def random_isometry(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """A random matrix [rows, columns] with orthonormal columns, or rows if it is wide; float64."""
    tall = torch.randn(max(rows, columns), min(rows, columns), generator=generator, dtype=torch.float64)
    q = torch.linalg.qr(tall)[0]
    return q if rows >= columns else q.t()
