"""Reads YAML without surprises: a key that is written twice is an error, and so is whatever else cannot be read."""

from __future__ import annotations

import re
from typing import Any

import yaml

from smoe_ds.errors import ConfigError

_POWER = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]{1,2}")


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, but a key that is written twice is an error and not the last one's value."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in seen:
                problem = f"key {key.value!r} is written twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add((key.tag, key.value))
        return node


def read_yaml(text: str, where: str) -> Any:
    """The value of a YAML text.

    Args:
        text: the text.
        where: what it is, for the message, e.g. its file.

    Raises:
        ConfigError: it is not YAML.
    """
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date of no calendar
        problem = " ".join(str(error).replace('in "<unicode string>", ', "at ").split())
        raise ConfigError(f"{where} not YAML: {problem}") from error
    except RecursionError as error:
        raise ConfigError(f"{where} YAML that cannot be read: its brackets or lists are nested too deeply") from error


def number_meant(value: Any) -> str | None:
    """How YAML wants a number to be written that it reads as text, e.g. 1e9; None for all else."""
    if not isinstance(value, str) or not _POWER.fullmatch(value):
        return None
    number = float(value)
    return str(int(number)) if number.is_integer() else f"{number:f}"
