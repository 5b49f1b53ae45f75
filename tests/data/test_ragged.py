"""Rows that come part by part are the rows of all parts in a row."""

from __future__ import annotations

import numpy as np
import pytest

from smoe_ds.data.ragged import Ragged, RaggedBuffer

PARTS = [[[1, 2], []], [[3]], [], [[4, 5, 6], [7]]]


@pytest.mark.parametrize("dtype", [np.uint16, np.int64])
def test_parts_in_a_buffer_equal_parts_in_a_row(dtype: type) -> None:
    parts = [Ragged(Ragged.of(rows).values.astype(dtype), Ragged.of(rows).lengths) for rows in PARTS]
    buffer = RaggedBuffer(5, 7)
    for part in parts:
        buffer.add(part)
    found, expected = buffer.ragged(), Ragged.concatenate(parts)
    assert found.values.dtype == dtype
    assert found.values.tolist() == expected.values.tolist()
    assert found.lengths.tolist() == expected.lengths.tolist()


def test_a_buffer_that_is_not_full_is_an_error() -> None:
    buffer = RaggedBuffer(2, 3)
    buffer.add(Ragged.of([[1, 2]]))
    with pytest.raises(AssertionError):
        buffer.ragged()
