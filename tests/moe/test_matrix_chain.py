"""Chains of five tensors: their sizes, the way from a matrix to a chain, and back by loops."""

from __future__ import annotations

from itertools import product
from math import prod

import pytest
import torch

from smoe_ds.moe.chain_shapes import CENTRE, LENGTH, ChainShape, five_factors
from smoe_ds.moe.matrix_chain import contract, factor, random_isometry
from tests.helpers.naive_chain import naive_matrix

SIZES = [(6, 10), (12, 30), (7, 5), (32, 16), (24, 36)]


@pytest.mark.parametrize(
    ("number", "factors"),
    [
        (3072, (4, 4, 8, 6, 4)),
        (768, (3, 4, 4, 4, 4)),
        (4096, (4, 4, 8, 8, 4)),
        (1024, (4, 4, 4, 4, 4)),
        (7, (1, 1, 7, 1, 1)),
        (1, (1, 1, 1, 1, 1)),
    ],
)
def test_factors_are_those_of_the_field(number: int, factors: tuple[int, ...]) -> None:
    assert five_factors(number) == factors


def test_factors_are_the_most_even_ones() -> None:
    for number in (2, 12, 16, 24, 30, 36):
        divisors = [n for n in range(1, number + 1) if number % n == 0]
        ways = [way for way in product(divisors, repeat=LENGTH) if prod(way) == number]
        found = five_factors(number)
        assert prod(found) == number
        assert sum(found) == min(map(sum, ways))
        assert found[CENTRE] == max(found)


def test_sizes_of_a_large_chain() -> None:
    shape = ChainShape.of(4096, 1024)
    assert shape.bonds == (1, 16, 256, 512, 16, 1)
    assert (shape.centre, shape.own) == (4_194_304, 328_192)
    assert ChainShape.of(4096, 1024, 100).bonds == (1, 16, 100, 100, 16, 1)


@pytest.mark.parametrize(("rows", "columns"), SIZES, ids=str)
def test_a_chain_with_full_bonds_is_the_matrix(rows: int, columns: int) -> None:
    matrix = torch.randn(rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(rows))
    shape = ChainShape.of(rows, columns)
    tensors = factor(matrix, shape)
    assert [tuple(tensor.shape) for tensor in tensors] == [shape.tensor(place) for place in range(LENGTH)]
    torch.testing.assert_close(naive_matrix(tensors), matrix, rtol=0, atol=1e-12)


@pytest.mark.parametrize("bond", [None, 1, 3])
@pytest.mark.parametrize(("rows", "columns"), SIZES, ids=str)
def test_contraction_is_the_sum_over_all_bonds(rows: int, columns: int, bond: int | None) -> None:
    shape, generator = ChainShape.of(rows, columns, bond), torch.Generator().manual_seed(1)
    own = [torch.randn(2, *shape.tensor(m), dtype=torch.float64, generator=generator) for m in range(LENGTH)]
    found = contract([tensors[0] if place == CENTRE else tensors for place, tensors in enumerate(own)])
    for number in range(2):
        chain = [tensors[0 if place == CENTRE else number] for place, tensors in enumerate(own)]
        torch.testing.assert_close(found[number], naive_matrix(chain), rtol=1e-12, atol=1e-12)


def test_a_short_bond_leaves_out_the_smallest_singular_values() -> None:
    """With one bond cut, the error is what the singular values of that cut say."""
    matrix = torch.randn(24, 36, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    full, bonds = ChainShape.of(24, 36), ChainShape.of(24, 36, 19).bonds
    (cut,) = (m for m in range(LENGTH + 1) if bonds[m] != full.bonds[m])
    tensors = factor(matrix, ChainShape.of(24, 36, 19))
    paired = matrix.reshape(*full.rows, *full.columns).permute(0, 5, 1, 6, 2, 7, 3, 8, 4, 9)
    values = torch.linalg.svdvals(paired.reshape(prod(full.rows[:cut]) * prod(full.columns[:cut]), -1))
    error = (naive_matrix(tensors) - matrix).norm()
    torch.testing.assert_close(error, values[bonds[cut] :].norm(), rtol=1e-10, atol=0)


@pytest.mark.parametrize(("rows", "columns"), [(5, 3), (3, 5), (4, 4)], ids=str)
def test_isometries(rows: int, columns: int) -> None:
    q = random_isometry(rows, columns, torch.Generator().manual_seed(1))
    small = q.t() @ q if rows >= columns else q @ q.t()
    assert q.shape == (rows, columns)
    torch.testing.assert_close(small, torch.eye(min(rows, columns), dtype=torch.float64))
