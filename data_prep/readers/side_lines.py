"""One side of many sentence pairs as bytes, a line each: how text travels from the readers to the filters.

Text in UTF-8 is its own form, so that a block of a file is taken as it is. Two bytes that no UTF-8 has say the rest:
one begins a line that tells why a side has no text, the other stands for a line end inside a side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from data_prep.readers.sides import Side, Unusable

INNER_END, UNUSABLE = b"\xfe", b"\xff"


def lines_of(sides: Sequence[Side]) -> bytes:
    """The sides, each ended by a line end; halves of surrogate pairs as if they were characters."""
    if set(map(type, sides)) == {str}:
        text = "\n".join([*cast(Sequence[str], sides), ""])
        if text.count("\n") == len(sides):
            return text.encode("utf-8", "surrogatepass")
    return b"".join([_line_of(side) + b"\n" for side in sides])


def _line_of(side: Side) -> bytes:
    if isinstance(side, Unusable):
        return UNUSABLE + side.value.encode()
    return side.encode("utf-8", "surrogatepass").replace(b"\n", INNER_END)


def sides_of(lines: bytes) -> Sequence[Side]:
    """The sides that `lines_of` was given."""
    if UNUSABLE in lines or INNER_END in lines:
        return [side_of_line(line) for line in lines.split(b"\n")[:-1]]
    return lines.decode("utf-8", "surrogatepass").split("\n")[:-1]


def side_of_line(line: bytes) -> Side:
    """The side on a line, which is given without its end."""
    if line.startswith(UNUSABLE):
        return Unusable(line[1:].decode())
    return line.replace(INNER_END, b"\n").decode("utf-8", "surrogatepass")


def line_ends(lines: bytes) -> np.ndarray:
    """Where the line ends are, int64 [N]."""
    return np.flatnonzero(np.frombuffer(lines, np.uint8) == ord("\n"))


def take_lines(lines: bytes, rows: np.ndarray) -> list[bytes]:
    """Some lines, int64 [M], without their ends."""
    ends = np.append(-1, line_ends(lines))
    return [lines[begin + 1 : end] for begin, end in zip(ends[rows].tolist(), ends[rows + 1].tolist(), strict=True)]
