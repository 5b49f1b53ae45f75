"""``--set a.b.c=value`` on the command line."""

from __future__ import annotations

import json
from typing import Any

from smoe_ds.config.hjson_text import NotReadableError, parse, without_duplicates
from smoe_ds.config.problems import shortened
from smoe_ds.config.tree_limits import DEEPEST, problem_in
from smoe_ds.errors import ConfigError


def parse_override(text: str) -> tuple[tuple[str, ...], Any]:
    """Splits ``a.b.c=value``; the value is JSON (or hjson in brackets), anything else is plain text.

    Raises:
        ConfigError: there is no key, or one that is too deep; the brackets hold no hjson, or the value cannot be used.
    """
    key, equals, value = text.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    where = f"--set: {shortened(text, 200)}"
    if not equals or not all(path):
        raise ConfigError([f"{where}: expected KEY=VALUE with a dotted key, e.g. --set smoe.moe.strata=[4,12]"])
    if len(path) > DEEPEST:
        raise ConfigError([f"{where}: a key of {len(path):,} parts; none has more than a few"])
    return path, _value(value.strip(), where)


def _value(value: str, where: str) -> Any:
    try:
        found = _json_or_text(value)
    except NotReadableError as error:
        raise ConfigError([f"{where}: is neither JSON nor hjson: {error}; mind the shell's quotes"]) from None
    if (problem := problem_in([value, found], nul=False)) is not None:
        raise ConfigError([f"{where}: cannot be used: {problem}"])
    return found


def _json_or_text(value: str) -> Any:
    """hjson when bracketed and no JSON, plain text otherwise."""
    try:
        return json.loads(value, object_pairs_hook=without_duplicates)
    except (ValueError, RecursionError):  # ValueError: also a number of thousands of digits
        return parse(value) if value[:1] in ("[", "{") else value


def nested(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """``("a", "b"), 1`` as ``{"a": {"b": 1}}``."""
    for name in reversed(path):
        value = {name: value}
    return value
