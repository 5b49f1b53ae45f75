"""One side of a sentence pair as a reader yields it: its text, or why there is none."""

from __future__ import annotations

from enum import Enum


class Unusable(Enum):
    """Why a side has no text."""

    INVALID_UTF8 = "invalid_utf8"
    TOO_LONG = "too_long"


Side = str | Unusable
SidePair = tuple[Side, Side]
