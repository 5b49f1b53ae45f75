"""Text as it is kept, and the keys that tell whether two texts are the same sentence."""

from __future__ import annotations

import hashlib
import re
import unicodedata

# Control characters other than white space, byte order marks inside the text, and Unicode's noncharacters.
_NONCHARACTERS = "".join(chr(plane + last) for plane in range(0xFFFF, 0x110000, 0x10000) for last in (-1, 0))
_REMOVED = re.compile(f"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ufeff\ufdd0-\ufdef{_NONCHARACTERS}]")
# Something other than white space, soft hyphens, zero-width characters, direction marks and variation selectors.
_VISIBLE = re.compile(r"[^\s\u00ad\u034f\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f]")


def tidy(text: str) -> tuple[str, bool]:
    """Text as it is kept: one line, single spaces, no control characters.

    Every kind of white space (tabs, no-break spaces, U+2028, ...) becomes a space. Nothing else changes: composition
    and compatibility forms are normalised by the tokenizer, alike in training and translation.

    Returns:
        the text, "" if nothing visible is left; and whether control characters were removed.
    """
    cleaned = text if text.isprintable() else _REMOVED.sub("", text)  # printable text holds none of them
    one_line = " ".join(cleaned.split())
    return (one_line if _VISIBLE.search(one_line) else ""), len(cleaned) != len(text)


class _KeyTable(dict[int, str | None]):
    """Code points to what they count as in a key: punctuation as a space, format characters as nothing."""

    def __missing__(self, code: int) -> str | None:
        category = unicodedata.category(chr(code))
        kept = None if category == "Cf" else chr(code) if category[0] in "LMN" else " "
        self[code] = kept
        return kept


_KEY_TABLE = _KeyTable()


def key(text: str) -> str:
    """What two sentences must share to count as the same: letters, marks and digits, without case and punctuation.

    Text without any letter or digit is its own key.
    """
    folded = text.lower() if text.isascii() else _fold(text)
    return " ".join(folded.translate(_KEY_TABLE).split()) or folded


def _fold(text: str) -> str:
    """Compatibility-composed text without case; case folding may undo the composition, hence twice."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def digest(text: str) -> bytes:
    """64-bit hash of a text, 8 bytes. Two of 100 million sentences share one with a probability below 0.1 %."""
    return hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest()
