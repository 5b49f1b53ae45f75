"""What an evaluation replaces: scores and translations that were made in another way are not lost without a word."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_NAMES = ("run", "checkpoint", "split", "limit")


def replaced_scores(output: Path, conditions: Mapping[str, Any], directions: Iterable[str]) -> str | None:
    """How the scores in a file were made otherwise than the ones that are to replace them.

    Args:
        output: the file, perhaps not there yet, or empty.
        conditions: of the evaluation to come, as ``scores.json`` has them.
        directions: which it scores.

    Returns:
        the differences in words; None: the file has no scores, or the same evaluation is made again.
    """
    text = output.read_text(encoding="utf-8") if output.is_file() else ""
    if not text:
        return None
    old = json.loads(text)
    before, now = _flat(old), _flat(conditions)
    other = [f"{name} {before.get(name)}" for name in now if before.get(name) != now[name]]
    lost = [name for name in old["directions"] if name not in set(directions)]
    if lost:
        other.append(f"{', '.join(lost[:3])}{f' and {len(lost) - 3} more directions' if len(lost) > 3 else ''} too")
    return ", ".join(other) or None


def _flat(conditions: Mapping[str, Any]) -> dict[str, Any]:
    """The conditions by the names that a reader knows them by."""
    flat = {name: conditions.get(name) for name in _NAMES}
    flat["checkpoint"] = (flat["checkpoint"] or {}).get("folder")
    return flat | conditions.get("decode", {})
