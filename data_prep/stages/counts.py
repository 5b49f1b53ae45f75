"""Sums of counts that pieces report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def add_counts(total: dict[str, Any], part: Mapping[str, Any]) -> None:
    """Adds counts, key by key."""
    for key, value in part.items():
        if isinstance(value, dict):
            add_counts(total.setdefault(key, {}), value)
        else:
            total[key] = total.get(key, type(value)()) + value
