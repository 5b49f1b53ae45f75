"""The writing system of letters and sentences, and which sentences of a language are in an unusual one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import numpy as np

UNKNOWN = 0
_LETTER = re.compile("[A-Za-z]")
_CODES = {
    "ADLAM": "Adlm", "ARABIC": "Arab", "ARMENIAN": "Armn", "BALINESE": "Bali", "BENGALI": "Beng", "BOPOMOFO": "Bopo",
    "BUGINESE": "Bugi", "CANADIAN": "Cans", "CHEROKEE": "Cher", "CJK": "Hani", "COPTIC": "Copt", "CYRILLIC": "Cyrl",
    "DEVANAGARI": "Deva", "ETHIOPIC": "Ethi", "GEORGIAN": "Geor", "GOTHIC": "Goth", "GREEK": "Grek", "GUJARATI": "Gujr",
    "GURMUKHI": "Guru", "HANGUL": "Hang", "HEBREW": "Hebr", "HIRAGANA": "Hira", "JAVANESE": "Java", "KANNADA": "Knda",
    "KATAKANA": "Kana", "KHMER": "Khmr", "LAO": "Laoo", "LATIN": "Latn", "MALAYALAM": "Mlym", "MEETEI": "Mtei",
    "MONGOLIAN": "Mong", "MYANMAR": "Mymr", "NKO": "Nkoo", "OL": "Olck", "ORIYA": "Orya", "SINHALA": "Sinh",
    "SUNDANESE": "Sund", "SYRIAC": "Syrc", "TAMIL": "Taml", "TELUGU": "Telu", "THAANA": "Thaa", "THAI": "Thai",
    "TIBETAN": "Tibt", "TIFINAGH": "Tfng", "YI": "Yiii",
}  # fmt: skip
OTHER = len(_CODES) + 1
NUM_SCRIPTS = OTHER + 1
"""Scripts are numbered from 1 in the order above; `OTHER` stands for the rest, which no living language needs."""

_NUMBERS = {name: number for number, name in enumerate(_CODES, 1)}
NUMBER_OF_CODE = {code: number for number, code in enumerate(_CODES.values(), 1)}
"""Number of a script by its ISO 15924 code."""

# First words of the names of letters that are not the name of their script, or of letters that have none.
_SAME = {"HALFWIDTH": "KATAKANA", "FULLWIDTH": "LATIN", "ROMAN": "LATIN", "HENTAIGANA": "HIRAGANA"}
_NO_SCRIPT = {"MODIFIER", "FEMININE", "MASCULINE", "MICRO", "MATHEMATICAL", "DOUBLE-STRUCK", "SCRIPT", "BLACK-LETTER",
              "SUPERSCRIPT", "TURNED", "KELVIN", "ANGSTROM", "OHM", "EULER", "PLANCK", "INFORMATION", "CARON", "",
              "VERTICAL", "MASU", "ALEF", "BET", "GIMEL", "DALET"}  # fmt: skip
# Japanese mixes three.
_MIXED = {_NUMBERS["HIRAGANA"]: _NUMBERS["CJK"], _NUMBERS["KATAKANA"]: _NUMBERS["CJK"]}


def script_of(character: str) -> int:
    """Number of the script of a letter; 0 for all else, and for letters that belong to none."""
    name = unicodedata.name(character, "").split(" ")[0] if character.isalpha() else ""
    name = _SAME.get(name, name)
    return UNKNOWN if name in _NO_SCRIPT else _NUMBERS.get(name, OTHER)


class _ScriptTable(dict[int, str | None]):
    """Code points to one character per script; None, which removes it, for all but letters."""

    def __missing__(self, code: int) -> str | None:
        number = script_of(chr(code))
        kept = self[code] = chr(_MIXED.get(number, number)) if number else None
        return kept


_TABLE = _ScriptTable()


def script_number(text: str) -> int:
    """Number of the script that most letters of a text are in, up to its first 200 characters; 0 without letters.

    Chinese characters and both kinds of Japanese kana count as one script.
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
