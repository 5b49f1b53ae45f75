"""The next sentences of every direction in their order, with their lengths.

Lengths are looked up for several windows at a time, since the calls and the pages of the offset tables that one window
needs are nearly those of eight. In every window another eighth of the directions does so: where there are many, all
windows take about the same time; a single one looks up in one window of eight. The first two after a start or a jump
look up no more than they need.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smoe_ds.data.permutation import permute
from smoe_ds.data.ragged import Int64, spans
from smoe_ds.data.seeding import UInt64, mix64
from smoe_ds.data.sentences import SentencePairs

_WINDOWS_AHEAD = 8
_FIRST = 2  # windows before the first look ahead


class Upcoming:
    """Sentences of D directions, each in an order of its own for every epoch.

    Args:
        pairs: sentence pairs of each direction.
        keys: uint64 [D], names each direction's orders.
    """

    def __init__(self, pairs: Sequence[SentencePairs], keys: UInt64) -> None:
        self._pairs, self._keys = pairs, keys
        self._sizes = np.array([len(one) for one in pairs], dtype=np.int64)
        self._number_dtype = np.min_scalar_type(int(self._sizes.max()))
        self._start = np.full(len(pairs), -1, np.int64)
        self._windows = 0  # taken in a row
        self._held: list[list[NDArray[Any]]] = []

    def take(self, start: Int64, count: Int64) -> tuple[Int64, Int64, Int64]:
        """The sentences of one window, direction after direction.

        Args:
            start: int64 [D], sentences that each direction gave before, all epochs counted.
            count: int64 [D], sentences that it gives now; N in all.

        Returns:
            Numbers of the sentences, and pieces of their sources and targets, int64 [N] each.

        Raises:
            DataError: a file is damaged where it is read.
        """
        if (start != self._start).any():
            self._jump_to(start)
        held = np.array([len(part[0]) for part in self._held])
        self._look_up(np.flatnonzero(held < count), held, count)
        counts = count.tolist()
        taken = [[values[:n] for values in part] for part, n in zip(self._held, counts, strict=True)]
        self._held = [[values[n:] for values in part] for part, n in zip(self._held, counts, strict=True)]
        self._start = start + count
        self._windows += 1
        numbers, src, tgt = (np.concatenate(values, dtype=np.int64) for values in zip(*taken, strict=True))
        return numbers, src, tgt

    def _jump_to(self, start: Int64) -> None:
        self._start, self._windows = start, 0
        dtypes = (self._number_dtype, np.int32, np.int32)
        self._held = [[np.zeros(0, dtype) for dtype in dtypes] for _ in self._pairs]

    def _look_up(self, directions: Int64, held: Int64, count: Int64) -> None:
        """Adds to what is held of some directions, so that it lasts for this window or some more."""
        if not len(directions):
            return
        turn = (self._windows + directions) % _WINDOWS_AHEAD
        if self._windows < _FIRST + _WINDOWS_AHEAD:
            ahead = np.where((turn == 0) & (self._windows >= _FIRST), _WINDOWS_AHEAD - 1, 0)
        else:
            ahead = _WINDOWS_AHEAD - 1 - turn
        # A window's count is a direction's share, rounded up or down.
        wanted = (count + 1)[directions] * (ahead + 1) - 1 - held[directions]
        numbers = self._numbers(directions, (self._start + held)[directions], wanted)
        for direction, part in zip(directions.tolist(), np.split(numbers, np.cumsum(wanted)[:-1]), strict=True):
            pairs = self._pairs[direction]
            new = (part.astype(self._number_dtype), pairs.src_lengths[part], pairs.tgt_lengths[part])
            old = self._held[direction]
            self._held[direction] = [np.concatenate(both) for both in zip(old, new, strict=True)]

    def _numbers(self, directions: Int64, start: Int64, count: Int64) -> Int64:
        """Sentences ``start`` to ``start + count - 1`` of each direction, from one epoch to the next."""
        sizes = self._sizes[directions]
        first, last = start // sizes, (start + count - 1) // sizes
        parts = last - first + 1
        of, epoch = np.repeat(np.arange(len(directions)), parts), spans(first, parts)
        begin = np.maximum(start[of] - epoch * sizes[of], 0)
        end = np.minimum((start + count)[of] - epoch * sizes[of], sizes[of])
        keys = mix64(self._keys[directions][of] ^ mix64(epoch.astype(np.uint64)))
        return permute(spans(begin, end - begin), sizes[of], keys, end - begin)
