"""The likeliest tokens, beside torch's own search over the whole vocabulary."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from smoe_ds.decode.candidates import largest


def values(kind: str, rows: int, columns: int) -> Tensor:
    drawn = torch.randn(rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(columns))
    if kind == "in a row":
        drawn[:, 7:40] += 20
    elif kind == "at the end":
        drawn[:, -5:] += 20
    elif kind == "equal":
        drawn = drawn.round()
    elif kind == "forbidden":
        drawn[:, 3:] = -torch.inf
    elif kind == "not a number":
        drawn[0, 777] = torch.nan
    return drawn


@pytest.mark.parametrize("columns", [50, 128 * 40, 128 * 41 + 1, 128 * 60 + 127])
@pytest.mark.parametrize("kind", ["scattered", "in a row", "at the end", "equal", "forbidden", "not a number"])
def test_largest_is_topk(kind: str, columns: int) -> None:
    drawn = values(kind, 6, max(columns, 800) if kind == "not a number" else columns)
    expected = drawn.topk(10, dim=1).values
    found, place = largest(drawn, 10)
    assert torch.equal(found.nan_to_num(1e9), expected.nan_to_num(1e9))
    assert torch.equal(drawn.gather(1, place).nan_to_num(1e9), found.nan_to_num(1e9))
    assert all(len(set(row)) == 10 for row in place.tolist())
    if kind in ("scattered", "in a row", "at the end"):
        assert torch.equal(place, drawn.topk(10, dim=1).indices)
