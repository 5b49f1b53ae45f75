"""Blocks of sentence pairs hold what they were given, however they are cut and put together."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.readers.block import Block, equal_blocks
from data_prep.readers.side_lines import line_ends, lines_of, side_of_line, sides_of
from data_prep.readers.sides import SidePair, Unusable

sides = st.one_of(st.text("a\n\r漢\ud800 ", max_size=4), st.sampled_from(Unusable))
some_pairs = st.lists(st.tuples(sides, sides), max_size=12)


@settings(max_examples=300, deadline=None)
@given(some_pairs)
def test_lines_give_back_every_side(pairs: list[SidePair]) -> None:
    block = Block.of(pairs)
    assert list(block.pairs()) == pairs and block.number == len(pairs)
    for side in (0, 1):
        assert block[side].count(b"\n") == len(pairs) and list(sides_of(block[side])) == [pair[side] for pair in pairs]
        assert line_ends(block[side]).tolist() == [place for place, byte in enumerate(block[side]) if byte == 10]


@settings(max_examples=300, deadline=None)
@given(some_pairs, st.lists(st.integers(0, 11), max_size=12))
def test_taken_lines_are_those_of_the_rows(pairs: list[SidePair], rows: list[int]) -> None:
    rows = [row for row in rows if row < len(pairs)]
    src, tgt = Block.of(pairs).take(np.array(rows, np.int64))
    assert [(side_of_line(a), side_of_line(b)) for a, b in zip(src, tgt, strict=True)] == [pairs[row] for row in rows]


@settings(max_examples=300, deadline=None)
@given(st.lists(some_pairs, max_size=6), st.integers(1, 9))
def test_equal_blocks_are_the_pairs_cut_anew(blocks: list[list[SidePair]], size: int) -> None:
    pairs = [pair for block in blocks for pair in block]
    found = [list(block.pairs()) for block in equal_blocks(map(Block.of, blocks), size)]
    assert found == [pairs[start : start + size] for start in range(0, len(pairs), size)]
    parts = [list(part.pairs()) for part in Block.of(pairs).parts(size)]
    assert [part for part in parts if part] == found


@pytest.mark.parametrize("text", ["plain", "漢字", ""])
def test_text_in_utf8_is_its_own_form(text: str) -> None:
    assert lines_of([text, text]) == f"{text}\n{text}\n".encode()
