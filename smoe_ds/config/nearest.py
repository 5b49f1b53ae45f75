"""The nearest known name to a misspelt one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_LONGEST = 100  # characters of what may be a misspelt name


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that most resembles ``name``, or None when none comes close."""
    if len(name) > _LONGEST:
        return None
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None
