"""What the stream asks of a corpus: the sentence pairs of one direction, by number."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from smoe_ds.data.ragged import Int64, Ragged


class Lengths(Protocol):
    """Lengths in pieces, looked up for an array of sentence numbers only. A NumPy array is one."""

    def __getitem__(self, index: NDArray[np.int64], /) -> NDArray[Any]: ...


class SentencePairs(Protocol):
    """Sentence pairs of one direction, as token ids without special tokens."""

    @property
    def direction(self) -> str: ...
    @property
    def src_language(self) -> str: ...
    @property
    def tgt_language(self) -> str: ...
    @property
    def src_lengths(self) -> Lengths: ...
    @property
    def tgt_lengths(self) -> Lengths: ...
    def __len__(self) -> int: ...
    def read(self, numbers: Int64, /) -> tuple[Ragged, Ragged]: ...


class First:
    """The first sentence pairs of a direction.

    Args:
        sentences: all of them.
        most: how many at most.
    """

    def __init__(self, sentences: SentencePairs, most: int) -> None:
        self._all, self._size = sentences, min(most, len(sentences))
        self.direction = sentences.direction
        self.src_language, self.tgt_language = sentences.src_language, sentences.tgt_language

    def __len__(self) -> int:
        return self._size

    @property
    def src_lengths(self) -> Lengths:
        """Pieces of every source sentence."""
        return self._all.src_lengths

    @property
    def tgt_lengths(self) -> Lengths:
        """Pieces of every target sentence."""
        return self._all.tgt_lengths

    def read(self, numbers: Int64, /) -> tuple[Ragged, Ragged]:
        """Ids of the given sources and targets."""
        return self._all.read(numbers)
