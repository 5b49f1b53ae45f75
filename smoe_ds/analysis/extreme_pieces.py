"""The pieces of highest and lowest requested capacity, and how frequent these are."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from smoe_ds.analysis.pieces import Pieces
from smoe_ds.analysis.requested_capacity import piece_capacity
from smoe_ds.analysis.routing_use import DirectionUse, side_of
from smoe_ds.data.ragged import Int64

NUMBER = 25
"""Pieces at each end, as in the paper's figure."""


@dataclass(frozen=True)
class ExtremePiece:
    """A piece at one end of a block and direction.

    Attributes:
        side: ``encoder`` or ``decoder``.
        block: its name.
        direction: whose text it was counted in.
        end: ``highest`` or ``lowest``.
        place: 1 for the most extreme one.
        piece: its spelling.
        rank: its frequency rank in all analysed text.
        tokens: how often it occurs in the direction.
        requested_capacity: its mean there.
    """

    side: str
    block: str
    direction: str
    end: str
    place: int
    piece: str
    rank: int
    tokens: int
    requested_capacity: float


def extreme_pieces(use: Mapping[str, DirectionUse], pieces: Pieces) -> list[ExtremePiece]:
    """The `NUMBER` pieces of highest and of lowest mean requested capacity, per block and direction.

    Control tokens are left out. Pieces with the same mean come in an arbitrary order that is always the same and has
    nothing to do with their frequency.

    Args:
        use: by direction.
        pieces: the vocabulary, ranked.
    """
    lot_V = np.array([zlib.crc32(str(index).encode()) for index in range(len(pieces.spelling_V))])
    return [
        one
        for direction, of in use.items()
        for block in of.blocks
        for end in ("highest", "lowest")
        for one in _at_end(of, pieces, lot_V, block, direction, end)
    ]


def _at_end(of: DirectionUse, pieces: Pieces, lot_V: Int64, block: str, direction: str, end: str) -> list[ExtremePiece]:
    side = side_of(block)
    tokens = of.sides[side]
    rc_U = piece_capacity(tokens, of.blocks[block])
    order = np.lexsort((lot_V[tokens.ids_U], -rc_U if end == "highest" else rc_U))
    order = order[pieces.rank_V[tokens.ids_U[order]] > 0][:NUMBER]
    return [
        ExtremePiece(
            side,
            block,
            direction,
            end,
            place,
            pieces.spelling_V[tokens.ids_U[u]],
            int(pieces.rank_V[tokens.ids_U[u]]),
            int(tokens.count_U[u]),
            float(rc_U[u]),
        )
        for place, u in enumerate(order, 1)
    ]
