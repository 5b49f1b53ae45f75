"""Sentence pairs for tests of the stream: held in memory, or computed on demand for corpora of any size."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np

from smoe_ds.data.ragged import Ragged
from smoe_ds.data.seeding import mix64, seeded_key


class MemorySentences:
    """Sentence pairs of one direction in flat arrays with offsets, as the files on disk hold them."""

    def __init__(self, direction: str, src: Sequence[Sequence[int]], tgt: Sequence[Sequence[int]]) -> None:
        assert len(src) == len(tgt)
        self.direction = direction
        self.src_language, self.tgt_language = direction.split("-")
        self._src, self._src_offsets = _flat(src)
        self._tgt, self._tgt_offsets = _flat(tgt)
        self.src_lengths = np.diff(self._src_offsets).astype(np.int32)
        self.tgt_lengths = np.diff(self._tgt_offsets).astype(np.int32)
        self.reads = 0

    def __len__(self) -> int:
        return len(self.src_lengths)

    def read(self, numbers: np.ndarray) -> tuple[Ragged, Ragged]:
        return read_each(self, numbers)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        self.reads += 1
        return (
            self._src[self._src_offsets[index] : self._src_offsets[index + 1]].astype(np.int64),
            self._tgt[self._tgt_offsets[index] : self._tgt_offsets[index + 1]].astype(np.int64),
        )


def read_each(pairs: MemorySentences | ComputedSentences, numbers: np.ndarray) -> tuple[Ragged, Ragged]:
    """Sources and targets of the given sentences, looked up one by one."""
    src, tgt = zip(*(pairs[number] for number in numbers.tolist()), strict=True)
    return Ragged.of(src), Ragged.of(tgt)


class ComputedLengths:
    """Lengths between ``shortest`` and ``longest`` that are a hash of the sentence's number; counts its look-ups."""

    def __init__(self, key: int, shortest: int, longest: int) -> None:
        self._key, self._shortest, self._spread = np.uint64(key), shortest, np.uint64(longest - shortest + 1)
        self.looked_up = 0

    def __getitem__(self, index: np.ndarray) -> np.ndarray:
        self.looked_up += len(index)
        return (mix64(self._key ^ index.astype(np.uint64)) % self._spread).astype(np.int32) + np.int32(self._shortest)


class ComputedSentences:
    """Any number of sentence pairs in no memory: lengths and ids are computed from the sentence's number."""

    def __init__(self, direction: str, size: int, *, shortest: int = 3, longest: int = 40) -> None:
        self.direction = direction
        self.src_language, self.tgt_language = direction.split("-")
        self._size = size
        self.src_lengths = ComputedLengths(seeded_key(direction, "src"), shortest, longest)
        self.tgt_lengths = ComputedLengths(seeded_key(direction, "tgt"), shortest, longest)

    def __len__(self) -> int:
        return self._size

    def read(self, numbers: np.ndarray) -> tuple[Ragged, Ragged]:
        return read_each(self, numbers)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if not 0 <= index < self._size:
            raise IndexError(index)
        src = int(self.src_lengths[np.array([index])][0])
        tgt = int(self.tgt_lengths[np.array([index])][0])
        return np.full(src, 10 + index % 1000, np.int64), np.full(tgt, 2000 + index % 1000, np.int64)


def random_sentences(
    direction: str, size: int, seed: int = 0, *, mean: float = 2.5, longest: int = 60
) -> MemorySentences:
    """Pairs of lognormal length whose sides have about the same length; the first source id is the sentence's number.

    Args:
        direction: e.g. ``eng-nso``.
        size: number of pairs.
        seed: of lengths and ids.
        mean: mean of the logarithm of the source length.
        longest: most pieces on a side.
    """
    rng = np.random.default_rng(seed)
    src = np.clip(np.exp(rng.normal(mean, 0.6, size)), 1, longest).astype(int)
    tgt = np.clip(src * np.exp(rng.normal(0, 0.2, size)), 1, longest).astype(int)
    return MemorySentences(
        direction,
        [[100 + i, *rng.integers(10, 100, length - 1)] for i, length in enumerate(src.tolist())],
        [rng.integers(10, 100, length).tolist() for length in tgt.tolist()],
    )


def _flat(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    offsets = np.array([0, *accumulate(map(len, rows))], dtype=np.uint64)
    flat = np.fromiter((token for row in rows for token in row), dtype=np.uint32, count=int(offsets[-1]))
    return flat, offsets
