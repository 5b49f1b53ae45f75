"""What a parsed file may hold before anybody walks it: no nesting without end, no number or text that none can take."""

from __future__ import annotations

from typing import Any

DEEPEST = 50
"""Objects and lists within each other."""
LARGEST = 500_000
"""Values in all, those of an alias counted wherever it stands."""
_LARGEST_NUMBER = 2**64


def problem_in(tree: Any, *, nul: bool = True) -> str | None:
    """What keeps a tree from being looked at further, in words; None if nothing does.

    Args:
        tree: dictionaries, lists and plain values, as a parser returns them; it may contain itself.
        nul: whether a text may have a NUL character, which no name of a file can have.
    """
    level, seen = [tree], 0
    for _ in range(DEEPEST + 1):
        if not level:
            return None
        seen += len(level)
        if seen > LARGEST:
            return f"it holds more than {LARGEST:,} values; write a smaller file"
        for value in level:
            problem = _problem_of(value, nul)
            if problem is not None:
                return problem
        size = sum(len(value) for value in level if isinstance(value, (dict, list, tuple, set)))
        if seen + size > LARGEST:
            return f"it holds more than {LARGEST:,} values; write a smaller file"
        level = [inner for value in level for inner in _inside(value)]
    return f"it is nested more than {DEEPEST} deep, or contains itself; no key is so deep"


def _inside(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value, *value.values()]
    return list(value) if isinstance(value, (list, tuple, set)) else []


def _problem_of(value: Any, nul: bool) -> str | None:
    if isinstance(value, int) and abs(value) > _LARGEST_NUMBER:
        return "it has a whole number of more than 64 bits; write a smaller one"
    if isinstance(value, str) and not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
        return "it has half of a surrogate pair, which is not a character; remove it (\\ud800 to \\udfff)"
    if isinstance(value, str) and not nul and "\0" in value:
        return "it has a NUL character, which no name or text can have; remove it"
    return None
