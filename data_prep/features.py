"""What the filters need to know of many sentences at once: lengths, letters, scripts and hashes, by array operations.

A sentence of ordinary text costs a few nanoseconds a character. One with control characters, unusual white space or
characters that change when text is normalised goes through the functions of `normalise`, one at a time; the result is
the same either way.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from data_prep.characters import COMPLEX, DIGIT, LETTER, MARK, NOTHING, SEEN, SPACE, UNTIDY, characters
from data_prep.normalise import key, near_key, tidy
from data_prep.scripts import NUM_SCRIPTS, NUMBER_OF_CODE

_NEW_LINE = 10
_DENSE = [NUMBER_OF_CODE[code] for code in ("Hani", "Hira", "Kana", "Hang", "Bopo", "Yiii")]
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


def features_of(texts: Sequence[str], scripts: Collection[int] = (), min_share: float = 0.5) -> Features:
    """Looks at sentences.

    Args:
        texts: the sentences as they were read, at least one.
        scripts: numbers of the scripts the language is written in; empty: unknown.
        min_share: share of the letters that are in these scripts, by width, below which a sentence is foreign.
    """
    table = characters()
    codes, ends = _codes(texts)
    starts = np.concatenate([[0], ends[:-1] + 1])
    flags = table.flags[codes]
    flags[ends] = 0
    found = np.bitwise_or.reduceat(flags, starts)
    spaces = codes == SPACE
    untidy = _untidy(found, spaces, starts, ends)
    tidied, control = _tidied(texts, untidy)
    lines = "\n".join(tidied).encode("utf-8").split(b"\n")
    lengths, words = ends - starts, _sums(spaces, ends) + 1
    for row in np.flatnonzero(untidy).tolist():
        lengths[row], words[row] = len(tidied[row]), tidied[row].count(" ") + 1
    slow = untidy | ((found & COMPLEX) != 0) | _neighbouring_marks(flags, starts)
    keys = _keys(tidied, table.folded[codes], ends, slow)
    hashes = _hashes(keys)
    letters = table.scripts[codes]
    weights = _weights(letters, dense=int(codes.max()) >= _FIRST_DENSE)
    return Features(
        lines=lines,
        lengths=lengths,
        widths=lengths + _sums(weights - (letters != 0), ends),
        words=words,
        control=control,
        letters=(found & LETTER) != 0,
        foreign=_foreign(letters, weights, ends, scripts, min_share),
        keys=hashes,
        near_keys=_near_hashes(hashes, keys, slow | ((found & DIGIT) != 0)),
        checksums=np.fromiter(map(crc32, lines), np.uint64, len(lines)),
    )


def _codes(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Code points of all texts, each followed by a line end; and where the line ends are."""
    joined = "\n".join([*texts, ""])
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), "<u4")
    return codes, np.cumsum(lengths + 1) - 1


def _untidy(found: np.ndarray, spaces: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Sentences that `tidy` may change, bool [N]."""
    double = np.flatnonzero(spaces[1:] & spaces[:-1])
    untidy: np.ndarray = ((found & UNTIDY) != 0) | ((found & SEEN) == 0)
    untidy[np.searchsorted(ends, double)] = True
    return untidy | spaces[starts] | spaces[ends - 1]


def _tidied(texts: Sequence[str], untidy: np.ndarray) -> tuple[list[str], np.ndarray]:
    tidied, control = list(texts), np.zeros(len(texts), bool)
    for row in np.flatnonzero(untidy).tolist():
        tidied[row], control[row] = tidy(texts[row])
    return tidied, control


def _sums(values: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Sums of values from the end of one sentence to that of the next, [N]."""
    return np.diff(np.cumsum(values, dtype=np.int64)[ends], prepend=0)


def _weights(letters: np.ndarray, *, dense: bool) -> np.ndarray:
    """What every character counts as a letter, by the number of its script: 0, 1 or 3."""
    if not dense:
        return np.minimum(letters, 1)
    weights = np.ones(NUM_SCRIPTS, np.uint8)
    weights[0] = 0
    weights[_DENSE] = 3
    return weights[letters]


def _foreign(
    letters: np.ndarray, weights: np.ndarray, ends: np.ndarray, own: Collection[int], min_share: float
) -> np.ndarray:
    """Sentences with too few letters in the scripts of their language, bool [N]."""
    if not own:
        return np.zeros(len(ends), bool)
    is_own = np.zeros(NUM_SCRIPTS, np.uint8)
    is_own[list(own)] = 1
    foreign: np.ndarray = _sums(is_own[letters] * weights, ends) < min_share * _sums(weights, ends)
    return foreign


def _neighbouring_marks(flags: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Sentences with two combining characters side by side, which normalisation may exchange, bool [N]."""
    marks = (flags & MARK) != 0
    rows = np.zeros(len(starts), bool)
    rows[np.searchsorted(starts, np.flatnonzero(marks[1:] & marks[:-1]), side="right") - 1] = True
    return rows


def _keys(texts: Sequence[str], folded: np.ndarray, ends: np.ndarray, slow: np.ndarray) -> list[bytes]:
    """The key of every sentence, UTF-8; one by one where ``slow``, and where the fast way leaves nothing."""
    keys = _fast_keys(folded, ends)
    empty = [row for row, found in enumerate(keys) if not found]
    for row in (*empty, *np.flatnonzero(slow).tolist()):
        keys[row] = key(texts[row]).encode("utf-8")
    return keys


def _near_hashes(hashes: np.ndarray, keys: Sequence[bytes], differ: np.ndarray) -> np.ndarray:
    """Hashes of the near keys; that of the key itself unless the sentence is among those that may ``differ``."""
    rows = np.flatnonzero(differ)
    near = hashes.copy()
    if len(rows):
        joined = b"\n".join([keys[row] for row in rows.tolist()]).decode("utf-8")  # a number does not cross lines
        near[rows] = _hashes(near_key(joined).encode("utf-8").split(b"\n"))
    return near


def _hashes(keys: Iterable[bytes]) -> np.ndarray:
    """`digest` of texts in UTF-8, uint64."""
    digests = b"".join([hashlib.blake2b(key, digest_size=8).digest() for key in keys])
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def _fast_keys(folded: np.ndarray, ends: np.ndarray) -> list[bytes]:
    """Keys, as UTF-8, of sentences all of whose characters are folded on their own; empty where nothing is left."""
    folded[ends] = _NEW_LINE
    kept = folded[folded != NOTHING]
    blank = kept == SPACE
    line_end = kept == _NEW_LINE
    after = np.concatenate([[True], (blank | line_end)[:-1]])  # follows a space, or begins a sentence
    kept = kept[~(blank & after)]
    before_end = np.concatenate([kept[1:] == _NEW_LINE, [False]])
    kept = kept[~((kept == SPACE) & before_end)]
    return kept.tobytes().decode("utf-32-le").encode("utf-8").split(b"\n")[:-1]
