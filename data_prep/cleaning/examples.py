"""Examples of dropped sentence pairs: ten per reason, the same ones whatever order the text is read in.

A pair's rank is a seeded hash of its text, and the ten of lowest rank are shown. So examples of parts of a text can be
put together, and equal pairs appear once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from data_prep.readers.side_lines import INNER_END, UNUSABLE, side_of_line
from data_prep.readers.sides import Side, Unusable
from smoe_ds.data.seeding import mix64, seeded_key

NUM_EXAMPLES = 10
MAX_CHARACTERS = 200
_NO_TEXT = {
    Unusable.INVALID_UTF8: "(not UTF-8)",
    Unusable.TOO_LONG: "(far too long to read)",
    Unusable.FORBIDDEN: "(with a character that XML forbids)",
    Unusable.UNKNOWN_ENTITY: "(with an entity that neither XML nor HTML knows)",
}
Ranked = dict[str, list[list[Any]]]
"""By reason, ``[rank, first side, second side]``, lowest rank first; JSON."""


class Examples:
    """Collects examples of dropped pairs."""

    def __init__(self, seed: int) -> None:
        """Starts with none; ``seed`` is the specification's."""
        self._seed = seeded_key(seed, "examples").to_bytes(8, "little")
        self._found: dict[str, dict[int, tuple[str, str]]] = {}

    def add(self, reason: str, first: bytes, second: bytes) -> None:
        """Considers a dropped pair, each side as a line of `lines_of` without its end."""
        text = b"\t".join((first, second)).replace(UNUSABLE, b"").replace(INNER_END, b"\n")
        digest = hashlib.blake2b(text, digest_size=8, key=self._seed).digest()
        rank = int.from_bytes(digest, "little")
        if self._is_wanted(reason, rank):
            self.add_ranked(reason, rank, side_of_line(first), side_of_line(second))

    def add_ranked(self, reason: str, rank: int, first: Side, second: Side) -> None:
        """Considers a dropped pair whose rank is known."""
        if self._is_wanted(reason, rank):
            found = self._found.setdefault(reason, {})
            found[rank] = _shown(first), _shown(second)
            if len(found) > NUM_EXAMPLES:
                del found[max(found)]

    def _is_wanted(self, reason: str, rank: int) -> bool:
        found = self._found.get(reason, {})
        return len(found) < NUM_EXAMPLES or rank < max(found)

    def ranked(self) -> Ranked:
        """The examples so far."""
        return {
            reason: [[rank, *found[rank]] for rank in sorted(found)] for reason, found in sorted(self._found.items())
        }


def merged(parts: Iterable[Ranked]) -> Ranked:
    """The examples of a text from those of its parts."""
    examples = Examples(0)
    for part in parts:
        for reason, ranked in part.items():
            for rank, first, second in ranked:
                examples.add_ranked(reason, rank, first, second)
    return examples.ranked()


def without_ranks(ranked: Mapping[str, list[list[Any]]]) -> dict[str, list[list[str]]]:
    """Examples as the report shows them: ``[first side, second side]`` by reason."""
    return {reason: [sides for _, *sides in found] for reason, found in ranked.items()}


def example_rows(rows: np.ndarray, hashes: np.ndarray, seed: int) -> dict[int, int]:
    """Rows to show, of pairs that were dropped for one reason.

    Args:
        rows: their lines, int [M].
        hashes: hash of each pair, uint64 [M].
        seed: the specification's seed.

    Returns:
        line to rank, for ten different pairs at most.
    """
    ranks, first = np.unique(mix64(hashes ^ np.uint64(seeded_key(seed, "examples"))), return_index=True)
    chosen = slice(0, NUM_EXAMPLES)
    return dict(zip(rows[first[chosen]].tolist(), ranks[chosen].tolist(), strict=True))


def _shown(side: Side) -> str:
    """A side for people: not too long, and control characters visible."""
    if isinstance(side, Unusable):
        return _NO_TEXT[side]
    text = side if len(side) <= MAX_CHARACTERS else f"{side[:MAX_CHARACTERS]}..."
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\u200d" else c.encode("unicode_escape").decode("ascii") for c in text)
