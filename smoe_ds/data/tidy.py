"""Text as it is kept: the same for a corpus that is prepared and for a line that is translated."""

from __future__ import annotations

import re
import unicodedata

# Control characters other than white space, byte order marks inside the text, halves of surrogate pairs (JSON can
# spell them), and Unicode's noncharacters.
_NONCHARACTERS = "".join(chr(plane + last) for plane in range(0xFFFF, 0x110000, 0x10000) for last in (-1, 0))
REMOVED = re.compile(f"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff\ufeff\ufdd0-\ufdef{_NONCHARACTERS}]")
# Something other than white space, soft hyphens, zero-width characters, direction marks, variation selectors, fillers
# of Hangul and Braille, anchors of annotations, and tags.
VISIBLE = re.compile(
    r"[^\s\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u2800\u3164"
    r"\ufe00-\ufe0f\uffa0\ufff9-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
# Characters that look different from what Unicode calls their canonical equivalent: ideographs of names and old forms
# (U+FA19 is not drawn as U+795E), and narrow angle brackets.
OWN_SHAPE = re.compile("([\u2329\u232a\uf900-\ufaff\U0002f800-\U0002fa1f])")


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
