"""``--set a.b.c=value`` on the command line."""

from __future__ import annotations

import json
from typing import Any

import hjson

from smoe_ds.errors import ConfigError


def parse_override(text: str) -> tuple[tuple[str, ...], Any]:
    """Splits ``a.b.c=value``; the value is JSON (or hjson in brackets), anything else is plain text.

    Raises:
        ConfigError: there is no key, or the brackets hold no hjson.
    """
    key, equals, value = text.partition("=")
    path = tuple(part.strip() for part in key.split("."))
    if not equals or not all(path):
        raise ConfigError(f"--set: {text}: expected KEY=VALUE with a dotted key, e.g. --set smoe.moe.strata=[4,12]")
    return path, _value(value.strip(), text)


def _value(value: str, text: str) -> Any:
    try:
        return json.loads(value)
    except json.JSONDecodeError:
        return _not_json(value, text)


def _not_json(value: str, text: str) -> Any:
    """hjson when bracketed, plain text otherwise."""
    if value[:1] not in ("[", "{"):
        return value
    try:
        tree = hjson.loads(value)
    except hjson.HjsonDecodeError as error:
        raise ConfigError(f"--set: {text}: is neither JSON nor hjson: {error.msg}; mind the shell's quotes") from None
    return json.loads(json.dumps(tree))


def nested(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """``("a", "b"), 1`` as ``{"a": {"b": 1}}``."""
    for name in reversed(path):
        value = {name: value}
    return value
