"""One side of a sentence pair as a reader yields it: its text, or why there is none."""

from __future__ import annotations

import re
from enum import Enum


class Unusable(Enum):
    """Why a side has no text."""

    INVALID_UTF8 = "invalid_utf8"
    TOO_LONG = "too_long"


Side = str | Unusable
SidePair = tuple[Side, Side]
_SURROGATE = re.compile("[\ud800-\udfff]")


def side_of(text: str) -> Side:
    """A text as a side; half a surrogate pair, which JSON's escapes can spell, is no character and has no UTF-8."""
    return Unusable.INVALID_UTF8 if _SURROGATE.search(text) else text
