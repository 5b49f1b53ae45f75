"""Durations as people read them."""

from __future__ import annotations


def format_duration(seconds: float) -> str:
    """``1d02h``, ``2h05m``, ``5m03s`` or ``7s``."""
    whole = max(round(seconds), 0)
    for size, unit, next_size, next_unit in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // next_size:02d}{next_unit}"
    return f"{whole}s"
