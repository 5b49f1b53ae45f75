"""Rows of different lengths, one after the other in a flat array: the form sentences have on disk and on their way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class Ragged:
    """N rows.

    Attributes:
        values: all rows, one after the other.
        lengths: int64 [N].
    """

    values: NDArray[Any]
    lengths: Int64

    def __len__(self) -> int:
        return len(self.lengths)

    @classmethod
    def of(cls, rows: Sequence[Sequence[int] | NDArray[Any]]) -> Ragged:
        """Rows given one by one, as int64."""
        lengths = np.fromiter(map(len, rows), np.int64, len(rows))
        return cls(np.fromiter(chain.from_iterable(rows), np.int64, int(lengths.sum())), lengths)

    @classmethod
    def concatenate(cls, parts: Sequence[Ragged]) -> Ragged:
        """The rows of all parts, at least one part."""
        if len(parts) == 1:
            return parts[0]
        return cls(np.concatenate([part.values for part in parts]), np.concatenate([part.lengths for part in parts]))

    @cached_property
    def starts(self) -> Int64:
        """Where each row begins in ``values``, int64 [N]."""
        return np.cumsum(self.lengths) - self.lengths

    def take(self, rows: Int64) -> Ragged:
        """The given rows, in the given order."""
        lengths = self.lengths[rows]
        return Ragged(self.values[spans(self.starts[rows], lengths)], lengths)

    def split(self, bounds: Int64) -> list[Ragged]:
        """Groups of rows: group g holds rows ``bounds[g]`` to ``bounds[g + 1] - 1``; ``bounds`` [G + 1] go up."""
        ends = np.concatenate([[0], np.cumsum(self.lengths)])[bounds].tolist()
        rows = bounds.tolist()
        return [
            Ragged(self.values[ends[g] : ends[g + 1]], self.lengths[rows[g] : rows[g + 1]])
            for g in range(len(rows) - 1)
        ]


class RaggedBuffer:
    """Rows that come part by part, of which the whole size is known: no part is kept.

    Args:
        rows: rows of all parts.
        values: values of all rows.
    """

    def __init__(self, rows: int, values: int) -> None:
        self._lengths, self._size = np.empty(rows, np.int64), values
        self._values: NDArray[Any] = np.empty(0)
        self._num_rows = self._num_values = 0

    def add(self, part: Ragged) -> None:
        """Appends rows, in the type of the first ones."""
        if not self._num_rows:
            self._values = np.empty(self._size, part.values.dtype)
        rows, values = self._num_rows + len(part), self._num_values + len(part.values)
        self._lengths[self._num_rows : rows] = part.lengths
        self._values[self._num_values : values] = part.values
        self._num_rows, self._num_values = rows, values

    def ragged(self) -> Ragged:
        """All rows."""
        assert (self._num_rows, self._num_values) == (len(self._lengths), self._size)
        return Ragged(self._values, self._lengths)


def spans(starts: Int64, lengths: Int64) -> Int64:
    """The integers of the ranges ``starts[i]`` to ``starts[i] + lengths[i] - 1``, one range after the other."""
    if len(starts) == 1:
        return np.arange(int(starts[0]), int(starts[0] + lengths[0]))
    ends = lengths.cumsum()
    total = int(ends[-1]) if len(ends) else 0
    return (starts - ends + lengths).repeat(lengths) + np.arange(total)
