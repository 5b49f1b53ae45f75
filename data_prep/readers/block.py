"""Some sentence pairs one after the other, both sides as lines of bytes: what is read, stored and cleaned at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from data_prep.readers.side_lines import line_ends, lines_of, sides_of, take_lines
from data_prep.readers.sides import SidePair


@dataclass(frozen=True)
class Block:
    """N sentence pairs.

    Attributes:
        src: the first sides, N lines of `lines_of`.
        tgt: the second sides, N lines.
        number: N.
    """

    src: bytes
    tgt: bytes
    number: int

    @classmethod
    def of(cls, pairs: Sequence[SidePair]) -> Block:
        """Pairs given one by one."""
        first, second = zip(*pairs, strict=True) if pairs else ((), ())
        return cls(lines_of(first), lines_of(second), len(pairs))

    @classmethod
    def joined(cls, blocks: Sequence[Block]) -> Block:
        """All pairs of several blocks."""
        if len(blocks) == 1:
            return blocks[0]
        src, tgt = (b"".join([block[side] for block in blocks]) for side in (0, 1))
        return cls(src, tgt, sum(block.number for block in blocks))

    def __getitem__(self, side: int) -> bytes:
        return (self.src, self.tgt)[side]

    def pairs(self) -> Iterator[SidePair]:
        """The pairs one by one."""
        return zip(sides_of(self.src), sides_of(self.tgt), strict=True)

    def take(self, rows: np.ndarray) -> tuple[list[bytes], list[bytes]]:
        """The lines of some pairs without their ends, first and second sides; ``rows`` int64 [M]."""
        return take_lines(self.src, rows), take_lines(self.tgt, rows)

    def parts(self, size: int, first: int | None = None) -> Iterator[Block]:
        """Blocks of ``size`` pairs each, the last one smaller; the first one of ``first`` pairs."""
        stops = [*range(min(size if first is None else first, self.number), self.number, size), self.number]
        ends = [np.append(-1, line_ends(lines))[stops].tolist() for lines in (self.src, self.tgt)]
        number = src = tgt = 0
        for stop, src_end, tgt_end in zip(stops, *ends, strict=True):
            yield Block(self.src[src : src_end + 1], self.tgt[tgt : tgt_end + 1], stop - number)
            number, src, tgt = stop, src_end + 1, tgt_end + 1


def equal_blocks(blocks: Iterable[Block], size: int) -> Iterator[Block]:
    """The pairs of all blocks in blocks of ``size`` pairs each, the last one smaller."""
    waiting: list[Block] = []
    number = 0
    for block in blocks:
        if number + block.number < size:
            waiting.append(block)
            number += block.number
            continue
        for part in block.parts(size, size - number):
            waiting.append(part)
            number += part.number
            if number == size:
                yield Block.joined(waiting)
                waiting, number = [], 0
    if number:
        yield Block.joined(waiting)
