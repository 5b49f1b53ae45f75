"""The sentence pairs of one direction in one split, over all shards of its pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from smoe_ds.data.ragged import Int64, Ragged
from smoe_ds.data.shard_reader import ShardSide


class Side:
    """One language of a pair: its sentences are numbered on from shard to shard."""

    def __init__(self, shards: Sequence[ShardSide]) -> None:
        self._shards = list(shards)
        self._starts = np.cumsum([0, *map(len, self._shards)])
        self._size = int(self._starts[-1])

    def __len__(self) -> int:
        return self._size

    def lengths(self, numbers: Int64) -> Int64:
        """Pieces of each sentence, int64 [N].

        Raises:
            IndexError: a sentence is not in 0..N-1; so for `read`.
            DataError: a file is damaged where it is read; so for `read`.
        """
        if len(self._shards) == 1:
            self._check(numbers)
            return self._shards[0].lengths(numbers)
        lengths = np.empty(len(numbers), np.int64)
        for shard, places, rows in self._by_shard(numbers):
            lengths[places] = shard.lengths(rows)
        return lengths

    def read(self, numbers: Int64) -> Ragged:
        """Ids of each sentence, in the type they have on disk."""
        parts = [(places, shard.read(rows)) for shard, places, rows in self._by_shard(numbers)]
        if not parts:
            return Ragged.of([])
        if len(parts) == 1:
            return parts[0][1]
        order = np.concatenate([places for places, _ in parts])
        return Ragged.concatenate([part for _, part in parts]).take(np.argsort(order))

    def place(self, number: int) -> tuple[ShardSide, int]:
        """The shard that holds a sentence, and the sentence's number in it."""
        shard = int(np.searchsorted(self._starts, number, "right")) - 1
        return self._shards[shard], number - int(self._starts[shard])

    def _by_shard(self, numbers: Int64) -> list[tuple[ShardSide, Any, Int64]]:
        """For each shard that is needed: places in ``numbers`` [N], and the rows of the shard that belong there."""
        self._check(numbers)
        if len(self._shards) == 1:
            return [(self._shards[0], slice(None), numbers)]
        shard_of = np.searchsorted(self._starts, numbers, "right") - 1
        places = [(number, np.flatnonzero(shard_of == number)) for number in np.unique(shard_of).tolist()]
        return [(self._shards[number], here, numbers[here] - self._starts[number]) for number, here in places]

    def _check(self, numbers: Int64) -> None:
        if len(numbers) and int(numbers.view(np.uint64).max()) >= self._size:  # a negative number is huge there
            raise IndexError(f"sentences {numbers.min()} to {numbers.max()} of {len(self)}")


class Lengths:
    """Lengths in pieces of one side, looked up in the offset tables; ``np.asarray`` reads them all (int32 [N])."""

    def __init__(self, side: Side) -> None:
        self._side = side

    def __len__(self) -> int:
        return len(self._side)

    def __getitem__(self, index: Int64 | slice) -> NDArray[np.int32]:
        """Lengths of the given sentences, int32 [N].

        Raises:
            IndexError: a sentence is not in 0..N-1.
        """
        numbers = np.arange(*index.indices(len(self))) if isinstance(index, slice) else np.asarray(index, np.int64)
        return self._side.lengths(numbers).astype(np.int32)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:].astype(dtype or np.int32, copy=False)


class ParallelSentences:
    """The sentence pairs of one direction; they stay on disk until they are asked for.

    Args:
        direction: ``SRC-TGT``.
        sides: language -> its sentences, of both languages.
    """

    def __init__(self, direction: str, sides: dict[str, Side]) -> None:
        self.direction = direction
        self.src_language, self.tgt_language = direction.split("-")
        self.src, self.tgt = sides[self.src_language], sides[self.tgt_language]

    def __len__(self) -> int:
        return len(self.src)

    @property
    def src_lengths(self) -> Lengths:
        """Pieces of every source sentence."""
        return Lengths(self.src)

    @property
    def tgt_lengths(self) -> Lengths:
        """Pieces of every target sentence."""
        return Lengths(self.tgt)

    def read(self, numbers: Int64) -> tuple[Ragged, Ragged]:
        """Ids of the given sources and targets.

        Raises:
            IndexError: a sentence is not in 0..N-1.
            DataError: a file is damaged where it is read.
        """
        return self.src.read(numbers), self.tgt.read(numbers)

    def __getitem__(self, index: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Ids of one source and its target, int64 [pieces] each; raises as `read`."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.direction}: sentence {index} of {len(self)}")
        src, tgt = self.read(np.array([index]))
        return src.values.astype(np.int64), tgt.values.astype(np.int64)
