"""The load of every expert as a picture: a row for each stratum of each block, a cell for each expert that it sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from smoe_ds.train.meters import StratumLoad

_CELL = 18  # pixels
_LINE = 6  # pixels that a character of the labels is wide
_PALE, _DARK = np.array([247, 251, 255]), np.array([8, 48, 107])
_DEAD, _UNSEEN = (213, 94, 0), (255, 255, 255)
_MOST = 2.0
"""Rows over the mean from which a cell is as dark as can be."""


def load_image(strata: Mapping[str, Sequence[StratumLoad]]) -> NDArray[np.uint8]:
    """Draws the loads of an interval.

    Cells are the darker the more rows an expert got, from none (pale) over the mean (half way) to twice the mean and
    more; experts without a row are orange, and those that a gate does not see are left white.

    Args:
        strata: the strata of each block, by its name.

    Returns:
        uint8 [height, width, 3].
    """
    from PIL import Image, ImageDraw

    rows = [(f"{name} stratum {i}", one) for name, block in strata.items() for i, one in enumerate(block)]
    margin = _LINE * max(len(label) for label, _ in rows) + 6
    experts = max(one.first_expert + len(one.rows) for _, one in rows)
    cells = np.full(((len(rows) + 1) * _CELL, margin + experts * _CELL, 3), _UNSEEN, dtype=np.uint8)
    for place, (_, one) in enumerate(rows, start=1):
        for expert, color in enumerate(_colors(one.rows), start=one.first_expert):
            left = margin + expert * _CELL
            cells[place * _CELL + 1 : (place + 1) * _CELL, left + 1 : left + _CELL] = color
    picture = Image.fromarray(cells)
    pen = ImageDraw.Draw(picture)
    for expert in range(experts):
        pen.text((margin + expert * _CELL + 3, 3), str(expert), fill=(80, 80, 80))
    for place, (label, _) in enumerate(rows, start=1):
        pen.text((3, place * _CELL + 3), label, fill=(0, 0, 0))
    return np.asarray(picture)


def _colors(rows: Sequence[float]) -> list[NDArray[np.int64] | tuple[int, int, int]]:
    mean = sum(rows) / max(len(rows), 1) or 1.0
    shares = [min(value / mean / _MOST, 1.0) for value in rows]
    return [(_PALE + share * (_DARK - _PALE)).astype(np.int64) if share else _DEAD for share in shares]
