"""What the filters need to know of many sentences at once: lengths, letters, scripts and hashes, by array operations.

A sentence of ordinary text costs a few nanoseconds a character. One with control characters, unusual white space or
characters that change when text is normalised goes through the functions of `normalise`, one at a time; the result is
the same either way.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from zlib import crc32

import numpy as np

from data_prep.languages.scripts import NUM_SCRIPTS, NUMBER_OF_CODE
from data_prep.text.characters import (
    COMPLEX,
    DIGIT,
    FLAGS_SHIFT,
    FOREIGN,
    LETTER,
    MARK,
    SEEN,
    UNTIDY,
    Characters,
    characters,
)
from data_prep.text.code_points import CodePoints
from data_prep.text.keys import hashes_of, keys_of_sentences, near_hashes_of
from smoe_ds.data.tidy import compose, tidy

_DENSE = [NUMBER_OF_CODE[code] for code in ("Hani", "Hira", "Kana", "Hang", "Bopo", "Yiii")]
_BLANK = ord(" ")
_FOLDED = (1 << FLAGS_SHIFT) - 1
_FIRST_DENSE = 0x1100  # code points below are in none of these scripts


@dataclass
class Features:
    """One side of many sentence pairs, [N] each.

    Attributes:
        lines: the sentences as `tidy` leaves them, UTF-8.
        lengths: characters.
        widths: characters, those of Chinese, Japanese and Korean counted as three: they say about as much.
        words: runs between white space.
        control: whether control characters were removed.
        letters: whether there is a letter.
        foreign: whether too few letters are in a script that the language is written in; false for unknown languages.
        keys: hashes of the `key`, uint64.
        near_keys: hashes of the `near_key`, uint64.
        checksums: of the exact text, uint64.
    """

    lines: list[bytes]
    lengths: np.ndarray
    widths: np.ndarray
    words: np.ndarray
    control: np.ndarray
    letters: np.ndarray
    foreign: np.ndarray
    keys: np.ndarray
    near_keys: np.ndarray
    checksums: np.ndarray


def features_of(lines: bytes, scripts: frozenset[int] = frozenset(), min_share: float = 0.5) -> Features:
    """Looks at sentences.

    Args:
        lines: the sentences as they were read, at least one, each followed by a line end; UTF-8, in which halves of
            surrogate pairs may stand.
        scripts: numbers of the scripts the language is written in; empty: unknown.
        min_share: share of the letters that are in these scripts, by width, below which a sentence is foreign.
    """
    lines, text = _composed(lines)
    points = CodePoints.of(text)
    table = characters(points.highest)
    codes = points.look_up(_packed(table, scripts))
    found = (np.bitwise_or.reduceat(codes, points.starts) >> FLAGS_SHIFT).astype(np.uint8)
    spaces = np.flatnonzero(points.values == _BLANK)
    lengths = points.ends - points.starts
    words = np.diff(np.searchsorted(spaces, points.ends), prepend=0) + 1
    untidy = _untidy(points, found, spaces)
    tidy_lines, control, tidied = lines.split(b"\n")[:-1], np.zeros(len(lengths), bool), {}
    for row in np.flatnonzero(untidy).tolist():
        tidied[row], control[row] = tidy(points.sentence(row))
        tidy_lines[row] = tidied[row].encode("utf-8")
        lengths[row], words[row] = len(tidied[row]), tidied[row].count(" ") + 1
    slow = untidy | ((found & COMPLEX) != 0)
    if (found & MARK).any():
        slow |= _neighbouring_marks(points, codes)
    keys = keys_of_sentences(points, (codes & _FOLDED).astype(points.values.dtype), slow, tidied)
    hashes = hashes_of(keys)
    return Features(
        lines=tidy_lines,
        lengths=lengths,
        widths=_widths(points, table, lengths),
        words=words,
        control=control,
        letters=(found & LETTER) != 0,
        foreign=_foreign(points, table, found, scripts, min_share),
        keys=hashes,
        near_keys=near_hashes_of(hashes, keys, slow | ((found & DIGIT) != 0)),
        checksums=np.fromiter(map(crc32, tidy_lines), np.uint64, len(tidy_lines)),
    )


def _composed(lines: bytes) -> tuple[bytes, str]:
    """The sentences as `compose` leaves them, as bytes and as text; 3 ns a character where nothing changes."""
    text = lines.decode("utf-8", "surrogatepass")
    if text.isascii():
        return lines, text
    composed = "\n".join(map(compose, text.split("\n")))
    return (lines if composed == text else composed.encode("utf-8", "surrogatepass")), composed


@lru_cache(maxsize=4)
def _packed(table: Characters, scripts: frozenset[int]) -> np.ndarray:
    """`Characters.packed` of the languages that are at hand."""
    return table.packed(scripts)


def _untidy(points: CodePoints, found: np.ndarray, spaces: np.ndarray) -> np.ndarray:
    """Sentences that `tidy` may change, bool [N]; ``spaces`` are the places of all blanks."""
    untidy: np.ndarray = ((found & UNTIDY) != 0) | ((found & SEEN) == 0)
    untidy |= points.values[points.starts] == _BLANK
    untidy |= points.values[points.ends - 1] == _BLANK
    untidy[points.sentences_at(spaces[:-1][np.diff(spaces) == 1])] = True
    return untidy


def _neighbouring_marks(points: CodePoints, codes: np.ndarray) -> np.ndarray:
    """Sentences with two combining characters side by side, which normalisation may exchange, bool [N]."""
    marks = codes & MARK << FLAGS_SHIFT != 0
    rows = np.zeros(len(points.ends), bool)
    rows[points.sentences_at(np.flatnonzero(marks[1:] & marks[:-1]))] = True
    return rows


def _widths(points: CodePoints, table: Characters, lengths: np.ndarray) -> np.ndarray:
    """Characters of each sentence, letters of the dense scripts counted as three, [N]."""
    if points.highest < _FIRST_DENSE:
        return lengths
    return lengths + points.sums(_weights()[points.look_up(table.scripts)] == 3) * 2


def _foreign(
    points: CodePoints, table: Characters, found: np.ndarray, own: frozenset[int], min_share: float
) -> np.ndarray:
    """Sentences with too few letters in the scripts of their language, bool [N]."""
    if not (found & FOREIGN).any():
        return np.zeros(len(points.ends), bool)
    weights = _weights()
    in_own = np.zeros_like(weights)
    in_own[list(own)] = weights[list(own)]
    scripts = points.look_up(table.scripts)
    foreign: np.ndarray = points.sums(in_own[scripts]) < min_share * points.sums(weights[scripts])
    return foreign


def _weights() -> np.ndarray:
    """What a letter of each script counts as, [NUM_SCRIPTS]; 0 for what is no letter."""
    weights = np.ones(NUM_SCRIPTS, np.uint8)
    weights[0] = 0
    weights[_DENSE] = 3
    return weights
