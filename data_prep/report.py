"""The report on what was read, dropped, noticed and kept: a table for people, and warnings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from data_prep.clean import DROP_REASONS, NOTICES

_SHARES = {"copies": 0.5, "duplicates": 0.5, "other_script": 0.1, "swapped": 0.05, "control_characters": 0.1}
_DROPPED_SHARES = {"duplicate": 0.5, "held_out": 0.2, "invalid_utf8": 0.01, "too_many_pieces": 0.05}


def warnings_of(report: dict[str, Any], vocabulary: dict[str, Any]) -> Iterator[str]:
    """What a user should look at: unusual shares, and held-out sets that came out smaller than asked for.

    Args:
        report: counts by pair and split.
        vocabulary: ``requested`` and ``pieces``.
    """
    for pair, splits in report.items():
        for split, counts in splits.items():
            yield from _unusual_shares(f"{pair} {split}", counts)
            yield from (f"{pair} {split}: {place}" for place in counts.get("places", []))
            if "drawn" in counts and counts["drawn"] < counts["asked"]:
                yield (
                    f"{pair} {split}: {counts['drawn']} of {counts['asked']} sentences drawn; "
                    "the text holds no more within held_out.max_fraction"
                )
    if vocabulary["pieces"] < vocabulary["requested"]:
        yield f"vocabulary: {vocabulary['pieces']} of {vocabulary['requested']} pieces; the text holds no more"


def _unusual_shares(where: str, counts: dict[str, Any]) -> Iterator[str]:
    read = counts.get("read", counts.get("drawn", 0))
    kept = read - sum(counts["dropped"].values())
    for name, limit in _SHARES.items():
        number = counts["noticed"].get(name, 0)
        if kept and number > limit * kept:
            yield f"{where}: {name} {number / kept:.0%} ({number:,} of {kept:,} pairs): {NOTICES.get(name, name)}"
    for name, limit in _DROPPED_SHARES.items():
        number = counts["dropped"].get(name, 0)
        if read and number > limit * read:
            yield f"{where}: dropped as {name} {number / read:.0%} ({number:,} of {read:,} pairs): {DROP_REASONS[name]}"


def format_report(manifest: dict[str, Any]) -> str:
    """The report as text: a row per pair and split, a column per reason that occurred."""
    report = manifest["report"]
    rows = [(pair, split, counts) for pair, splits in report.items() for split, counts in splits.items()]
    reasons = [name for name in DROP_REASONS if any(counts["dropped"].get(name) for *_, counts in rows)]
    header = ["pair", "text", "read", *reasons, "to held-out", "kept", "src tokens", "tgt tokens"]
    table = [header]
    for pair, split, counts in rows:
        entry = manifest["splits"][split][pair]
        numbers = [counts["dropped"].get(name, 0) for name in reasons]
        sides = [entry["tokens"][language] for language in pair.split("-")]
        read = "drawn" if "drawn" in counts else f"{counts['read']:,}"
        moved = counts.get("moved", 0)
        table.append([pair, split, read, *(f"{n:,}" for n in (*numbers, moved, entry["sentences"], *sides))])
    noticed = [
        f"{pair} {split}: {NOTICES.get(name, name)}: {number:,}"
        for pair, split, counts in rows
        for name, number in counts["noticed"].items()
    ]
    parts = ["\n".join(_aligned(table)), *noticed, *(f"warning: {text}" for text in manifest["warnings"])]
    return "\n".join(parts)


def _aligned(table: list[list[str]]) -> Iterator[str]:
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    for row in table:
        cells = [
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
