"""What every code point counts as, in tables: the basis of looking at thousands of sentences in a few array operations.

The tables say the same as `normalise` and `scripts`, which look at one sentence at a time.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from data_prep.languages.scripts import NUM_SCRIPTS, script_of
from data_prep.text.sentence_key import key_character
from smoe_ds.data.tidy import REMOVED, VISIBLE

LETTER, UNTIDY, SEEN, COMPLEX, MARK, DIGIT, FOREIGN = 1, 2, 4, 8, 16, 32, 64
"""Flags: a letter; white space other than a blank, or removed by `tidy`; visible; not folded on its own; combining
(of a class that may be reordered); a decimal digit in the key; a letter of a script that the language is not written
in."""

FLAGS_SHIFT = 21
"""In `Characters.packed` the flags begin at this bit; below is the folded code point."""

NOTHING = 0
"""Folded code point of what vanishes from a key: spaces, punctuation, format characters."""

_END = 0x110000
_FEW = 0x3000  # up to here are the alphabets, beyond Chinese characters and the like
_ASSIGNED = (range(0x33480), range(0xE0000, 0xE0200))  # beyond: private use and unassigned
_TAGS = range(0xE0000, 0xE1000)  # not seen, the unassigned ones neither
# Blocks of letters of one script that normalisation and case folding leave alone.
_UNIFORM = (range(0x3400, 0x4DC0), range(0x4E00, 0xA000), range(0xAC00, 0xD7A4),
            range(0x20000, 0x2F800), range(0x30000, 0x323B0))  # fmt: skip


@dataclass(frozen=True, eq=False)
class Characters:
    """Properties of the code points below C.

    Attributes:
        flags: uint8 [C].
        folded: what a character is in a key, uint32 [C]; nothing that counts where it is ``COMPLEX``.
        scripts: number of the script of a letter, 0 for all else, uint8 [C].
    """

    flags: np.ndarray
    folded: np.ndarray
    scripts: np.ndarray

    def packed(self, own: frozenset[int]) -> np.ndarray:
        """Folded code points and flags in one number, so that one look-up finds both; a line end has no flags.

        Args:
            own: the scripts of a language; empty: unknown, and no letter is foreign.

        Returns:
            uint32 [C].
        """
        others = np.zeros(NUM_SCRIPTS, np.uint8)
        if own:
            others[1:] = FOREIGN
            others[list(own)] = 0
        packed = (self.flags | others[self.scripts]).astype(np.uint32) << FLAGS_SHIFT | self.folded
        packed[ord("\n")] = ord("\n")
        return packed


def characters(highest: int = _END - 1) -> Characters:
    """The tables, up to a code point at least."""
    return _characters(_FEW if highest < _FEW else _END)


@lru_cache(maxsize=2)
def _characters(end: int) -> Characters:
    """The tables of the code points below ``end``, made once in a process: 30 ms for few, 150 ms for all."""
    flags = np.full(_END, SEEN, np.uint8)
    flags[_TAGS.start : _TAGS.stop] = 0
    folded = np.full(_END, NOTHING, np.uint32)
    scripts = np.zeros(_END, np.uint8)
    seconds = _second_of_compositions()
    uniform = np.zeros(_END, bool)
    for block in _UNIFORM:
        uniform[block.start : block.stop] = True
    for code in (code for block in _ASSIGNED for code in block if code < end and not uniform[code]):
        character = chr(code)
        if code < 0x10000 or unicodedata.category(character) != "Cn":
            flags[code], folded[code] = _properties(character, seconds)
            scripts[code] = script_of(character)
    for block in (block for block in _UNIFORM if block.start < end):
        codes = np.array([code for code in block if unicodedata.category(chr(code)) == "Lo"])
        flags[codes], folded[codes], scripts[codes] = SEEN | LETTER, codes, script_of(chr(block[0]))
    for first, number in ((0xFDD0, 32), *((plane + 0xFFFE, 2) for plane in range(0, _END, 0x10000))):
        flags[first : first + number] |= UNTIDY  # noncharacters
    assert scripts.max() < NUM_SCRIPTS
    return Characters(flags[:end], folded[:end], scripts[:end])


def _second_of_compositions() -> set[str]:
    """Characters that may join the one before them into one when text is composed."""
    seconds = {chr(code) for first, last in ((0x1161, 0x1175), (0x11A8, 0x11C2)) for code in range(first, last + 1)}
    for code in (*range(0x3400), *range(0xF900, 0x1E000)):  # in between there are none
        parts = unicodedata.decomposition(chr(code)).split()
        if len(parts) == 2 and not parts[0].startswith("<"):
            seconds.add(chr(int(parts[1], 16)))
    return seconds


def _properties(character: str, seconds: set[str]) -> tuple[int, int]:
    flags = LETTER * character.isalpha() | SEEN * bool(VISIBLE.match(character))
    if REMOVED.match(character) or (character.isspace() and character != " "):
        flags |= UNTIDY
    if unicodedata.combining(character):
        flags |= MARK
    if "\ud800" <= character <= "\udfff":
        return flags, NOTHING
    fold = character.casefold() if character.isascii() else _folded(character)
    kept = [key_character(part) for part in fold]
    text = "".join(part for part in kept if part)
    if len(fold) == 1 and text == fold and fold not in seconds:
        other_class = bool(unicodedata.combining(fold)) != bool(unicodedata.combining(character))
        wider = character <= "\uffff" < fold  # would not fit an array of 16 bits
        return flags | DIGIT * fold.isdecimal() | COMPLEX * (other_class or wider), ord(fold)
    if not text and character not in seconds:
        return flags, NOTHING
    return flags | COMPLEX, NOTHING


def _folded(character: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", character).casefold())
