"""Balanced k-means: clusters of exactly equal sizes."""

from __future__ import annotations

import torch
from torch import Tensor

from smoe_ds.weights.assignment import assign

_MOST_ROUNDS = 30


def balanced_clusters(rows_RD: Tensor, number: int, seed: int) -> Tensor:
    """The cluster of each row [R], int64; every cluster has R / ``number`` rows.

    Rows and centres take turns: the assignment of least summed squared distance to the centres, then each centre the
    mean of its rows, until nothing changes. The first centres are rows drawn far apart (k-means++, Arthur and
    Vassilvitskii, 2007).

    Args:
        rows_RD: what is clustered.
        number: of clusters; it divides R.
        seed: of the first centres.
    """
    rows_RD = rows_RD.detach().double()
    centres_ED = _first_centres(rows_RD, number, torch.Generator().manual_seed(seed))
    cluster_R = torch.full((rows_RD.shape[0],), -1)
    for _ in range(_MOST_ROUNDS):
        distance_RE = _squared_distances(rows_RD, centres_ED)
        found_R = torch.from_numpy(assign(distance_RE.numpy(), rows_RD.shape[0] // number))
        if torch.equal(found_R, cluster_R):
            break
        cluster_R = found_R
        centres_ED = cluster_means(rows_RD, cluster_R, number)
    return cluster_R


def cluster_means(rows_RD: Tensor, cluster_R: Tensor, number: int) -> Tensor:
    """The mean row of each cluster [E, D]."""
    return torch.stack([rows_RD[cluster_R == e].mean(0) for e in range(number)])


def _first_centres(rows_RD: Tensor, number: int, generator: torch.Generator) -> Tensor:
    """Rows, each drawn in proportion to its squared distance to the nearest one drawn before."""
    chosen = [int(torch.randint(rows_RD.shape[0], (1,), generator=generator))]
    while len(chosen) < number:
        nearest_R = _squared_distances(rows_RD, rows_RD[chosen]).amin(1)
        if not nearest_R.any():  # the rows that are left are all copies of centres
            nearest_R = torch.ones_like(nearest_R)
        chosen.append(int(torch.multinomial(nearest_R, 1, generator=generator)))
    return rows_RD[chosen]


def _squared_distances(rows_RD: Tensor, centres_ED: Tensor) -> Tensor:
    return torch.cdist(rows_RD, centres_ED, compute_mode="donot_use_mm_for_euclid_dist").square()
