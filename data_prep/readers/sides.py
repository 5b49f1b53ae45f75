"""One side of a sentence pair as a reader yields it: its text, or why there is none."""

from __future__ import annotations

import re
from enum import Enum


class Unusable(Enum):
    """Why a side has no text."""

    INVALID_UTF8 = "invalid_utf8"
    TOO_LONG = "too_long"
    FORBIDDEN = "forbidden_character"
    UNKNOWN_ENTITY = "unknown_entity"


Side = str | Unusable
SidePair = tuple[Side, Side]
_SURROGATE = re.compile("[\ud800-\udfff]")


def is_text(text: str) -> bool:
    """Whether a text has UTF-8; half a surrogate pair has none: JSON's escapes can spell it, and bytes that are invalid
    in a file's encoding may stand as such."""
    return not _SURROGATE.search(text)


def side_of(text: str) -> Side:
    """A text as a side."""
    return text if is_text(text) else Unusable.INVALID_UTF8
