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
