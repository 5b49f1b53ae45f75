"""Clusters are of equal size, repeatable, found again where they are plain, and never worse than where they began."""

from __future__ import annotations

import pytest
import torch

from smoe_ds.weights.balanced_clusters import balanced_clusters


def spread(rows: torch.Tensor, cluster: torch.Tensor) -> float:
    """Summed squared distance to the clusters' means, row by row."""
    total = 0.0
    for row, own in zip(rows, cluster.tolist(), strict=True):
        mean = torch.stack([other for other, its in zip(rows, cluster.tolist(), strict=True) if its == own]).mean(0)
        total += float(((row - mean) ** 2).sum())
    return total


def test_plain_clusters_are_found() -> None:
    generator = torch.Generator().manual_seed(1)
    centres = 10 * torch.randn(5, 4, generator=generator)
    order = torch.randperm(40, generator=generator)
    rows = (centres.repeat(8, 1) + 0.1 * torch.randn(40, 4, generator=generator))[order]
    found = balanced_clusters(rows, 5, seed=3)
    for cluster in range(5):
        assert len(set((order[found == cluster] % 5).tolist())) == 1


@pytest.mark.parametrize("number", [1, 3, 8, 24])
def test_sizes_are_equal_and_no_swap_of_two_rows_helps(number: int) -> None:
    rows = torch.randn(24, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    found = balanced_clusters(rows, number, seed=5)
    assert found.bincount().tolist() == [24 // number] * number
    assert torch.equal(found, balanced_clusters(rows, number, seed=5))
    means = torch.stack([rows[found == e].mean(0) for e in range(number)])
    for a in range(24):
        for b in range(a):
            now = ((rows[[a, b]] - means[found[[a, b]]]) ** 2).sum()
            swapped = ((rows[[a, b]] - means[found[[b, a]]]) ** 2).sum()
            assert now <= swapped + 1e-9


def test_copies_of_one_row_make_equal_clusters_too() -> None:
    assert balanced_clusters(torch.ones(6, 2), 3, seed=1).bincount().tolist() == [2, 2, 2]


def test_it_ends_better_than_equal_pieces_in_order() -> None:
    rows = torch.randn(30, 4, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    assert spread(rows, balanced_clusters(rows, 5, seed=1)) < 0.8 * spread(rows, torch.arange(30) // 6)
