"""What readers fix or leave out on the way, for the report."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Notes:
    """Counts by name (byte order marks, CRLF, ...), and places: the first line of each file that cannot be read."""

    counts: Counter[str] = field(default_factory=Counter)
    places: list[str] = field(default_factory=list)
