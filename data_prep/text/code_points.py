"""Many sentences as one array of code points, to be looked up in tables and summed up sentence by sentence."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LINE_END = ord("\n")


@dataclass
class CodePoints:
    """Code points of N sentences one after the other, each followed by a line end, [C] in all.

    Attributes:
        text: the sentences, each followed by a line end.
        values: uint16, or uint32 where one is above 0xFFFF.
        starts: where each sentence begins, int64 [N].
        ends: where its line end is, int64 [N].
        highest: the highest code point.
    """

    text: str
    values: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    highest: int
    _indices: np.ndarray

    @classmethod
    def of(cls, text: str) -> CodePoints:
        """The sentences, at least one, each followed by a line end."""
        data = text.encode("utf-16-le", "surrogatepass")
        if len(data) == 2 * len(text):
            values = np.frombuffer(data, "<u2")
        else:
            values = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
        ends = np.flatnonzero(values == LINE_END)
        return cls(text, values, np.append(0, ends[:-1] + 1), ends, int(values.max()), values.astype(np.intp))

    def sentence(self, row: int) -> str:
        """A sentence without its line end."""
        return self.text[self.starts[row] : self.ends[row]]

    def look_up(self, table: np.ndarray) -> np.ndarray:
        """The entry of every code point in a table of at least ``highest + 1``."""
        return np.take(table, self._indices, mode="clip")

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sums of values [C] over each sentence, int64 [N]."""
        return np.add.reduceat(values, self.starts, dtype=np.int64)

    def sentences_at(self, places: np.ndarray) -> np.ndarray:
        """The sentence of each place in the array, in order; perhaps repeated."""
        return np.searchsorted(self.ends, places)
