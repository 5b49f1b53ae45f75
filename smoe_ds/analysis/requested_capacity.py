"""Mean requested capacity of groups of tokens: by direction, language, frequency, kind of piece and position."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smoe_ds.analysis.pieces import KINDS, Pieces
from smoe_ds.analysis.routing_use import SIDES, BlockUse, DirectionUse, SideTokens, language_of, side_of
from smoe_ds.data.ragged import Int64

GROUPINGS = ("all", "direction", "language", "frequency", "kind", "position")
MEAN = "mean"
"""Stands for the mean over the blocks of a side."""


@dataclass(frozen=True)
class GroupCapacity:
    """A group of tokens in one block.

    Attributes:
        side: ``encoder`` or ``decoder``.
        block: its name; `MEAN` for the mean over the side's blocks, each counting the same.
        by: what the tokens are grouped by, one of `GROUPINGS`.
        group: the direction, the language, the band of ranks, the kind of piece, or the position, from 1.
        tokens: tokens of the group.
        requested_capacity: their mean; of a block with heads the mean over slices.
    """

    side: str
    block: str
    by: str
    group: str
    tokens: int
    requested_capacity: float


def group_capacities(use: Mapping[str, DirectionUse], pieces: Pieces) -> list[GroupCapacity]:
    """Every group that has tokens, by side, grouping, block and group.

    Args:
        use: by direction, in the order in which directions and languages are to come.
        pieces: the vocabulary, ranked.
    """
    blocks = list(next(iter(use.values())).blocks)
    found = []
    for side in SIDES:
        of_side = [name for name in blocks if side_of(name) == side]
        for by in GROUPINGS if of_side else ():
            found += _grouped(use, pieces, side, by, of_side)
    return found


def _grouped(
    use: Mapping[str, DirectionUse], pieces: Pieces, side: str, by: str, blocks: list[str]
) -> list[GroupCapacity]:
    names = _group_names(use, pieces, side, by)
    parts = [_sums(use[direction], direction, pieces, side, by, names, blocks) for direction in use]
    tokens_G, passes_BG = (np.sum([part[i] for part in parts], axis=0) for i in (0, 1))
    heads_B1 = np.array([[next(iter(use.values())).blocks[name].heads] for name in blocks])
    rc_BG = passes_BG / heads_B1 / np.maximum(tokens_G, 1)
    rows = [*zip(blocks, rc_BG, strict=True), (MEAN, rc_BG.mean(0))]
    return [
        GroupCapacity(side, block, by, name, int(tokens_G[g]), float(rc_G[g]))
        for block, rc_G in rows
        for g, name in enumerate(names)
        if tokens_G[g]
    ]


def _group_names(use: Mapping[str, DirectionUse], pieces: Pieces, side: str, by: str) -> list[str]:
    match by:
        case "direction":
            return list(use)
        case "language":
            return list(dict.fromkeys(language_of(side, direction) for direction in use))
        case "frequency":
            return list(pieces.bands)
        case "kind":
            return list(KINDS)
        case "position":
            return [str(place + 1) for place in range(len(next(iter(use.values())).sides[side].count_S))]
    return ["all"]


def _sums(
    of: DirectionUse, direction: str, pieces: Pieces, side: str, by: str, names: list[str], blocks: list[str]
) -> tuple[Int64, Int64]:
    """Tokens [G] and passes [B, G] of one direction by group."""
    tokens, uses = of.sides[side], [of.blocks[name] for name in blocks]
    if by == "position":
        return tokens.count_S, np.stack([block.passes_S for block in uses])
    if by in ("frequency", "kind"):
        label_U = (pieces.band_V if by == "frequency" else pieces.kind_V)[tokens.ids_U]
    else:
        name = {"all": "all", "direction": direction, "language": language_of(side, direction)}[by]
        label_U = np.full(len(tokens.ids_U), names.index(name))
    return _by_label(label_U, tokens.count_U, len(names)), np.stack(
        [_by_label(label_U, block.passes_U, len(names)) for block in uses]
    )


def _by_label(label_U: Int64, values_U: Int64, size: int) -> Int64:
    """Sums of values by label; those below 0 are left out."""
    sums = np.zeros(size, np.int64)
    np.add.at(sums, label_U[label_U >= 0], values_U[label_U >= 0])
    return sums


def piece_capacity(tokens: SideTokens, block: BlockUse) -> NDArray[np.float64]:
    """Mean requested capacity of each id that occurs, float64 [U]."""
    return block.passes_U / block.heads / tokens.count_U
