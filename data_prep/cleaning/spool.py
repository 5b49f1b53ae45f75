"""Cleaned text on its way: one file a language, with the hashes that duplicates and held-out sentences are found by.

The text of a pair is cut into pieces of equal numbers of sentence pairs read, so that many processes can clean it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np

from data_prep.cleaning.clean import NUM_HASHES
from data_prep.languages.scripts import unusual
from data_prep.readers.side_lines import take_lines


def place_of(pair: str, split: str, piece: int, suffix: str) -> str:
    """Where a file of a piece of cleaned text is, below the folder of all pieces."""
    return f"clean/{pair}.{split}/{piece:05d}.{suffix}"


@dataclass(frozen=True)
class Spool:
    """The cleaned sentence pairs of one text of a pair (``train``, ``valid`` or ``test``), in a temporary folder.

    Attributes:
        folder: the folder of all pieces.
        languages: the pair's two languages.
        split: the split whose text it is.
        sizes: sentence pairs in each of its pieces; N in all.
    """

    folder: Path
    languages: tuple[str, str]
    split: str
    sizes: tuple[int, ...]

    def _file(self, piece: int, suffix: str) -> Path:
        return self.folder / place_of("-".join(self.languages), self.split, piece, suffix)

    def hashes(self) -> np.ndarray:
        """Hashes of each pair, uint64 [N, 4]: the columns that `data_prep.cleaning.clean` names."""
        return self._all("hashes", np.dtype("<u8")).reshape(-1, NUM_HASHES)

    def other_script(self) -> np.ndarray:
        """Whether a side of an unknown language is in another script than most of its sentences here, bool [N]."""
        scripts = self._all("scripts", np.dtype(np.uint8)).reshape(-1, 2)
        return unusual(scripts[:, 0]) | unusual(scripts[:, 1])

    def _all(self, suffix: str, dtype: np.dtype) -> np.ndarray:
        pieces = [np.fromfile(self._file(piece, suffix), dtype) for piece in range(len(self.sizes))]
        return np.concatenate([np.empty(0, dtype), *pieces])

    def bounds(self, piece: int) -> tuple[int, int]:
        """The lines of a piece: the first, and the one after the last."""
        start = sum(self.sizes[:piece])
        return start, start + self.sizes[piece]

    def lines(self, side: int, mask: np.ndarray) -> Iterator[bytes]:
        """The sentences of one side for which ``mask`` (bool [N]) is true, UTF-8."""
        start = 0
        for piece, size in enumerate(self.sizes):
            wanted = mask[start : start + size]
            start += size
            if wanted.any():
                yield from self.piece_lines(piece, side, wanted)

    def piece_lines(self, piece: int, side: int, mask: np.ndarray) -> list[bytes]:
        """The sentences of one side of a piece for which ``mask`` (bool [n]) is true, UTF-8."""
        text = self._file(piece, f"{self.languages[side]}.txt").read_bytes()
        rows = np.flatnonzero(mask)
        if len(rows) < len(mask) // 4:
            return take_lines(text, rows)
        lines = text.split(b"\n")
        return lines[:-1] if len(rows) == len(mask) else list(compress(lines, mask.tolist()))
