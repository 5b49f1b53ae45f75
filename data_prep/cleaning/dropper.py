"""Takes lines out of a cleaned text, by what is known of the whole corpus; counts them and chooses examples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from data_prep.cleaning.clean import PAIR
from data_prep.cleaning.examples import example_rows, merged
from data_prep.cleaning.spool import Spool

_EARLY = 200_000  # examples come from so many lines at a text's start, so that few of its pieces are read for them,
_ENOUGH = 50  # if so many pairs were dropped there


@dataclass
class Dropper:
    """The lines that are left of the text of one split of a pair.

    Attributes:
        spool: the text, N lines.
        counts: of this text, completed in place.
        seed: the specification's, which decides on the examples.
        mask: lines that are left, bool [N].
    """

    spool: Spool
    counts: dict[str, Any]
    seed: int
    mask: np.ndarray
    _examples: dict[str, dict[int, int]] = field(default_factory=dict)

    def rows(self) -> np.ndarray:
        """The lines that are left, int [n]."""
        return np.flatnonzero(self.mask)

    def drop(self, reason: str, rows: np.ndarray) -> None:
        """Drops lines, int [M], for a reason."""
        if not len(rows):
            return
        self.mask[rows] = False
        self.counts["dropped"][reason] = self.counts["dropped"].get(reason, 0) + len(rows)
        early = rows[rows < _EARLY]
        candidates = early if len(early) >= _ENOUGH else rows
        self._examples[reason] = example_rows(candidates, self.spool.hashes()[candidates, PAIR], self.seed)

    def notice(self, name: str, number: int) -> None:
        """Counts what is kept, but worth knowing."""
        if number:
            self.counts["noticed"][name] = self.counts["noticed"].get(name, 0) + number

    def close(self) -> None:
        """Reads the examples and adds them to the counts."""
        lines = sorted({row for rows in self._examples.values() for row in rows})
        mask = np.zeros(len(self.mask), bool)
        mask[lines] = True
        sides = [map(bytes.decode, self.spool.lines(side, mask)) for side in (0, 1)]
        texts = dict(zip(lines, zip(*sides, strict=True), strict=True))
        found = {
            reason: [[rank, *texts[row]] for row, rank in ranks.items()] for reason, ranks in self._examples.items()
        }
        self.counts["examples"] = merged([self.counts.get("examples", {}), found])
