"""Text as it is kept, and the keys that tell whether two texts are the same sentence."""

from __future__ import annotations

import hashlib
import re
import unicodedata

# Control characters other than white space, byte order marks inside the text, halves of surrogate pairs (JSON can
# spell them), and Unicode's noncharacters.
_NONCHARACTERS = "".join(chr(plane + last) for plane in range(0xFFFF, 0x110000, 0x10000) for last in (-1, 0))
REMOVED = re.compile(f"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff\ufeff\ufdd0-\ufdef{_NONCHARACTERS}]")
# Something other than white space, soft hyphens, zero-width characters, direction marks and variation selectors.
VISIBLE = re.compile(r"[^\s\u00ad\u034f\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f]")
# Characters that look different from what Unicode calls their canonical equivalent: ideographs of names and old forms
# (U+FA19 is not drawn as U+795E), and narrow angle brackets.
OWN_SHAPE = re.compile("([\u2329\u232a\uf900-\ufaff\U0002f800-\U0002fa1f])")
_NUMBERS = re.compile(r"\d+")


def tidy(text: str) -> tuple[str, bool]:
    """Text as it is kept: composed, one line, single spaces, no control characters.

    Every kind of white space (tabs, no-break spaces, U+2028, ...) becomes a space. Nothing else changes that a reader
    sees: compatibility forms, joiners, variation selectors, direction marks and soft hyphens stay.

    Returns:
        the text, "" if nothing visible is left; and whether control characters were removed.
    """
    cleaned = text if text.isprintable() else REMOVED.sub("", text)  # printable text holds none of them
    one_line = " ".join(compose(cleaned).split())
    return (one_line if VISIBLE.search(one_line) else ""), len(cleaned) != len(text)


def compose(text: str) -> str:
    """Text in canonical composition (NFC), so that what looks the same is spelled the same.

    Characters that look different from their equivalent (`OWN_SHAPE`) stay.
    """
    composed = unicodedata.normalize("NFC", text)
    if composed == text or not OWN_SHAPE.search(text):
        return composed
    return "".join(unicodedata.normalize("NFC", part) if number % 2 == 0 else part  # odd ones are the separators
                   for number, part in enumerate(OWN_SHAPE.split(text)))  # fmt: skip


def key_character(character: str) -> str | None:
    """What a folded character counts as in a key: itself; spaces, punctuation and format characters nothing."""
    return character if unicodedata.category(character)[0] in "LMN" else None


class _KeyTable(dict[int, str | None]):
    """Code points to what they count as in a key."""

    def __missing__(self, code: int) -> str | None:
        kept = self[code] = key_character(chr(code))
        return kept


_KEY_TABLE = _KeyTable()


def key(text: str) -> str:
    """What two sentences must share to count as the same: letters, marks and digits, without case, one after the other.

    So ``e-mail``, ``e mail`` and ``email`` are the same. Text without any letter or digit is its own key.
    """
    folded = text.lower() if text.isascii() else _fold(text)
    return folded.translate(_KEY_TABLE) or folded


def near_key(key_of_text: str) -> str:
    """What two sentences must share to count as nearly the same: their keys, with every number the same.

    Args:
        key_of_text: the sentence's `key`; numbers are digits side by side (``35`` may have been 3.5).
    """
    return _NUMBERS.sub("0", key_of_text)


def _fold(text: str) -> str:
    """Compatibility-composed text without case; case folding may undo the composition, hence twice."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def digest(text: str) -> bytes:
    """64-bit hash of a text, 8 bytes. Two of 100 million sentences share one with a probability below 0.1 %."""
    return hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest()
