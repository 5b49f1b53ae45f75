"""The writing system of a sentence, and which sentences of a language are in an unusual one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np

UNKNOWN = 0
_LETTER = re.compile("[A-Za-z]")
# Japanese mixes three, and names of letters begin with these words without being scripts.
_SAME = {"HIRAGANA": "CJK", "KATAKANA": "CJK", "HALFWIDTH": "CJK", "FULLWIDTH": "LATIN"}
_NO_SCRIPT = {"MODIFIER", "FEMININE", "MASCULINE", "MICRO", "MATHEMATICAL", "DOUBLE-STRUCK", "SCRIPT", "BLACK-LETTER"}
_NUMBERS: dict[str, int] = {"LATIN": 1}


class _ScriptTable(dict[int, str | None]):
    """Code points to one character per script; None, which removes it, for all but letters."""

    def __missing__(self, code: int) -> str | None:
        character = chr(code)
        name = unicodedata.name(character, "").split(" ")[0] if character.isalpha() else ""
        name = _SAME.get(name, name)
        number = _NUMBERS.setdefault(name, len(_NUMBERS) + 1) if name and name not in _NO_SCRIPT else None
        self[code] = chr(number) if number else None
        return self[code]


_TABLE = _ScriptTable()


def script_number(text: str) -> int:
    """Number of the script that most letters of a text are in, up to its first 200 characters; 0 without letters.

    The numbers hold within a process.
    """
    if text.isascii():
        return _NUMBERS["LATIN"] if _LETTER.search(text) else UNKNOWN
    scripts = text[:200].translate(_TABLE)
    return ord(max(sorted(set(scripts)), key=scripts.count)) if scripts else UNKNOWN


def script_name(number: int) -> str:
    """Name of a script, e.g. ``LATIN``."""
    return next((name for name, other in _NUMBERS.items() if other == number), "none")


def unusual(numbers: Sequence[int] | np.ndarray) -> np.ndarray:
    """Which sentences are in another script than most of them.

    Args:
        numbers: `script_number` of each sentence, [N].

    Returns:
        bool [N]; sentences without letters never are.
    """
    scripts = np.asarray(numbers, np.int64)
    known = scripts[scripts != UNKNOWN]
    if not len(known):
        return np.zeros(len(scripts), bool)
    return (scripts != UNKNOWN) & (scripts != np.bincount(known).argmax())
