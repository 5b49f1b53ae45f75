"""What a check found on one rank, in words that can be merged with what it found on others."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

OK, NOTE, FAILED, SKIPPED = "ok", "note", "failed", "skipped"
"""Marks of findings: as it should be; runs, but should be known; does not run; does not apply."""

_FIGURE = re.compile(r"\{(\w+):(bytes|rate|seconds|count)\}")


@dataclass(frozen=True)
class Finding:
    """One line about one rank, host or run.

    Attributes:
        mark: OK, NOTE, FAILED or SKIPPED.
        text: what was found and what was expected; ``{name:unit}`` stands for a figure.
        remedy: what to do about it; empty where nothing has to be done.
        figures: numbers that may differ between ranks; unit ``bytes``, ``rate`` [bytes/s], ``seconds`` or ``count``.
        scope: ``rank`` where every rank reports, ``host`` where the first one of each host does, ``run`` where rank 0
            speaks for all.
    """

    mark: str
    text: str
    remedy: str = ""
    figures: Mapping[str, float] = field(default_factory=dict)
    scope: str = "rank"

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Finding:
        """From what ``dataclasses.asdict`` made of it."""
        return cls(**content)


def words(text: str, figures: Mapping[str, tuple[float, float]]) -> str:
    """The text with its figures written out.

    Args:
        text: of a finding.
        figures: smallest and largest value of each.
    """

    def written(match: re.Match[str]) -> str:
        name, unit = match.groups()
        if name not in figures:
            return match[0]
        low, high = (_number(value, unit) for value in figures[name])
        return low if low == high else f"{low} to {high}"

    return _FIGURE.sub(written, text)


def _number(value: float, unit: str) -> str:
    if unit == "count":
        return f"{value:,.0f}"
    if unit == "bytes":
        return _scaled(value, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))
    if unit == "rate":
        return _scaled(value, 1000, ("B/s", "kB/s", "MB/s", "GB/s", "TB/s"))
    size = abs(value)
    if size >= 1:
        return f"{value:.1f} s"
    return f"{value * 1e3:.1f} ms" if size >= 1e-3 else f"{value * 1e6:.0f} µs"


def _scaled(value: float, base: int, units: tuple[str, ...]) -> str:
    power = 0
    while abs(value) >= base and power < len(units) - 1:
        value, power = value / base, power + 1
    return f"{value:.0f} {units[power]}" if power == 0 or abs(value) >= 100 else f"{value:.1f} {units[power]}"
