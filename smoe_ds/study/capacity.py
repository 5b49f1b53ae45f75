"""Requested capacity over the seeds of a system: do they agree on which languages take more, and is it chance?

Letters: S seeds, G groups of tokens such as languages, N permutations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from math import factorial

import numpy as np
from numpy.typing import NDArray

from smoe_ds.study.row import Row

Float64 = NDArray[np.float64]
_EXACT, _DRAWS = 5000, 4999


@dataclass(frozen=True)
class Agreement:
    """The requested capacity of the groups of one property on one side, in the runs of a system.

    Attributes:
        system: its name.
        by: ``language`` or ``frequency``.
        side: ``encoder`` or ``decoder``.
        groups: languages, or bands of frequency ranks, that all runs have.
        values: requested capacity of each group, by seed.
        correlation: rank correlation between two seeds, mean over all pairs of them: 1 if all order the groups alike;
            None with fewer than two seeds or three groups, or where a seed makes no difference between groups.
        p: how often orders that have nothing to do with each other correlate as much: one-sided.
    """

    system: str
    by: str
    side: str
    groups: tuple[str, ...]
    values: Mapping[int, Sequence[float]]
    correlation: float | None
    p: float | None


@dataclass(frozen=True)
class Chance:
    """Whether requested capacity goes with a property of tokens in the runs of a system, see `smoe_ds.analysis.chance`.

    Attributes:
        system: its name.
        side: ``encoder`` or ``decoder``.
        by: ``language``, ``frequency`` or ``position``.
        effects: by seed.
        p: of each seed's effect.
    """

    system: str
    side: str
    by: str
    effects: Mapping[int, float]
    p: Mapping[int, float]

    @property
    def one_way(self) -> bool | None:
        """Whether the effects of all seeds have one sign; None where they cannot have two."""
        return None if self.by == "language" else len({effect > 0 for effect in self.effects.values()}) == 1


def agreements(rows: Sequence[Row]) -> list[Agreement]:
    """Those of every system, property and side that is known of at least one run; none where all tokens pass as much.

    Args:
        rows: of the study; those that failed do not count.
    """
    found = []
    for name, own in _by_system(rows).items():
        for by, side in dict.fromkeys((by, side) for row in own for by, of in row.capacity.items() for side in of):
            runs = {row.seed: row.capacity[by][side] for row in own if side in row.capacity.get(by, {})}
            if runs:
                groups = [group for group in next(iter(runs.values())) if all(group in of for of in runs.values())]
                values = {seed: [of[group] for group in groups] for seed, of in sorted(runs.items())}
                found.append(Agreement(name, by, side, tuple(groups), values, *rank_agreement(list(values.values()))))
    return found


def chances(rows: Sequence[Row]) -> list[Chance]:
    """What the analyses of all runs found, by system, side and property."""
    found = []
    for name, own in _by_system(rows).items():
        tests = {(one["side"], one["by"], row.seed): one for row in own for one in row.chance}
        for side, by in dict.fromkeys(key[:2] for key in tests):
            seeds = sorted(seed for *of, seed in tests if of == [side, by])
            effects, p = ({seed: tests[side, by, seed][key] for seed in seeds} for key in ("effect", "p"))
            found.append(Chance(name, side, by, effects, p))
    return found


def _by_system(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The runs of each system some of whose tokens pass more strata than others."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row.status == "done" and row.capacity:
            found.setdefault(row.name, []).append(row)
    return {name: own for name, own in found.items() if len(set(_capacities(own))) > 1}


def _capacities(rows: Sequence[Row]) -> Iterator[float]:
    for row in rows:
        for sides in row.capacity.values():
            for of in sides.values():
                yield from of.values()


def rank_agreement(values: Sequence[Sequence[float]]) -> tuple[float | None, float | None]:
    """Mean rank correlation (Spearman) of all pairs of seeds, and its p by permutation of each seed's groups.

    All permutations are tried if they are few, else drawn ones, always the same.

    Args:
        values: of each seed [S, G].

    Returns:
        Both None where they mean nothing, see `Agreement`.
    """
    values_SG = np.array(values, np.float64)
    if len(values_SG) < 2 or values_SG.shape[1] < 3 or (np.ptp(values_SG, axis=1) == 0).any():
        return None, None
    ranks_SG = np.array([_ranks(values_G) for values_G in values_SG])
    ranks_SG -= ranks_SG.mean(axis=1, keepdims=True)
    ranks_SG /= np.linalg.norm(ranks_SG, axis=1, keepdims=True)
    found = _mean_correlation(ranks_SG.sum(axis=0)[None], len(ranks_SG))[0]
    seeds, groups = ranks_SG.shape
    if factorial(groups) ** (seeds - 1) <= _EXACT:  # what the first seed's order is makes no difference
        orders = [
            [ranks_SG[0], *(r[list(o)] for r, o in zip(ranks_SG[1:], each, strict=True))]
            for each in product(permutations(range(groups)), repeat=seeds - 1)
        ]
        drawn_N = _mean_correlation(np.array(orders).sum(axis=1), seeds)
        return float(found), float((drawn_N >= found - 1e-9).mean())
    draw = np.random.default_rng(1)
    sums_NG = sum(draw.permuted(np.tile(ranks_G, (_DRAWS, 1)), axis=1) for ranks_G in ranks_SG)
    drawn_N = _mean_correlation(np.asarray(sums_NG), seeds)
    return float(found), float((1 + (drawn_N >= found - 1e-9).sum()) / (1 + _DRAWS))


def _mean_correlation(sums_NG: Float64, seeds: int) -> Float64:
    """Of ranks of mean 0 and norm 1, by their sums over the seeds: all products of two seeds are in the square."""
    squares_N = (sums_NG**2).sum(axis=1)
    return np.asarray((squares_N - seeds) / (seeds * (seeds - 1)))


def _ranks(values_G: Float64) -> Float64:
    """Ranks from 1, equal values sharing the mean of theirs."""
    below_G, same_G = ((op(values_G[None], values_G[:, None])).sum(axis=1) for op in (np.less, np.equal))
    return np.asarray(below_G + (same_G + 1) / 2)
