"""The picture of loads: each expert's cell lies where it should and is as dark as its load."""

from __future__ import annotations

import numpy as np

from smoe_ds.train.load_image import _CELL, _DEAD, _LINE, load_image
from smoe_ds.train.meters import StratumLoad


def test_cells() -> None:
    strata = {
        "encoder.1": [
            StratumLoad(1.0, 1.0, 0.0, 0.0, 1.0, rows=(2.0, 0.0, 1.0, 5.0)),
            StratumLoad(1.0, 1.0, 0.0, 0.0, 1.0, rows=(3.0, 3.0), first_expert=2),
        ],
        "decoder.1": [StratumLoad(1.0, 1.0, 0.0, 0.0, 1.0, rows=(0.0, 0.0, 0.0))],
    }
    picture = load_image(strata)
    margin = _LINE * len("encoder.1 stratum 0") + 6
    assert picture.shape == (4 * _CELL, margin + 4 * _CELL, 3) and picture.dtype == np.uint8

    def cell(row: int, expert: int) -> tuple[int, ...]:
        return tuple(map(int, picture[(row + 1) * _CELL + _CELL - 2, margin + expert * _CELL + _CELL - 2]))

    dark = [sum(cell(0, expert)) for expert in (2, 0, 3)]  # 1, 2 and 5 of a mean of 2 rows
    assert dark == sorted(dark, reverse=True) and len(set(dark)) == 3
    assert cell(0, 1) == _DEAD == cell(2, 0)
    assert cell(1, 0) == cell(1, 1) == (255, 255, 255) == cell(2, 3), "not seen"
    assert cell(1, 2) == cell(1, 3) == cell(0, 0), "the mean"
    assert (picture[_CELL : 2 * _CELL, :margin] < 100).any(), "a label"
