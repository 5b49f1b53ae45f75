"""Many sentences as one array of code points, to be looked up in tables and summed up sentence by sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass
class CodePoints:
    """Code points of N sentences one after the other, each followed by a line end, [C] in all.

    Attributes:
        values: uint16, or uint32 where one is above 0xFFFF.
        starts: where each sentence begins, int64 [N].
        ends: where its line end is, int64 [N].
    """

    values: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    _indices: np.ndarray

    @classmethod
    def of(cls, texts: Sequence[str]) -> CodePoints:
        """The sentences, at least one; line ends inside them are code points like others."""
        joined = "\n".join([*texts, ""])
        data = joined.encode("utf-16-le", "surrogatepass")
        if len(data) == 2 * len(joined):
            values = np.frombuffer(data, "<u2")
        else:
            values = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), "<u4")
        ends = np.cumsum(np.fromiter(map(len, texts), np.int64, len(texts)) + 1) - 1
        return cls(values, np.concatenate([[0], ends[:-1] + 1]), ends, values.astype(np.intp))

    def look_up(self, table: np.ndarray) -> np.ndarray:
        """The entry of every code point in a table [0x110000]."""
        return np.take(table, self._indices, mode="clip")

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sums of values [C] over each sentence, int64 [N]."""
        return np.add.reduceat(values, self.starts, dtype=np.int64)

    def sentences_of(self, mask: np.ndarray) -> np.ndarray:
        """Sentences with a code point for which ``mask`` [C] is true, numbers in order, perhaps repeated."""
        return np.searchsorted(self.ends, np.flatnonzero(mask))
