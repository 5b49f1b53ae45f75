"""Reads YAML without surprises: a key that is written twice is an error, and so is whatever else cannot be read."""

from __future__ import annotations

import re
from typing import Any

import yaml

from smoe_ds.config.problems import shortened
from smoe_ds.config.tree_limits import LARGEST, problem_in
from smoe_ds.errors import ConfigError

_MERGE = "tag:yaml.org,2002:merge"
_MOST_MERGED = 100
"""Mappings that one ``<<`` may take in."""
_LONGEST = 500  # characters of a message
_POWER = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]{1,2}")


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, but a key that is written twice is an error and not the last one's value.

    ``<<`` writes no more keys than a file could have: those of mappings that merge others count again each time.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._merged = 0

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        for key, value in node.value:
            if key.tag == _MERGE and isinstance(value, yaml.SequenceNode) and len(value.value) > _MOST_MERGED:
                raise _problem_at(node, f"<< merges more than {_MOST_MERGED} mappings")
        super().flatten_mapping(node)
        self._merged += len(node.value)
        if self._merged > LARGEST:
            raise _problem_at(node, f"<< merges more than {LARGEST:,} keys")

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in seen:
                raise _problem_at(key, f"key {shortened(key.value, 100)!r} is written twice")
            seen.add((key.tag, key.value))
        return node


def _problem_at(node: yaml.Node, problem: str) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def read_yaml(text: str, where: str) -> Any:
    """The value of a YAML text.

    Args:
        text: the text.
        where: what it is, for the message, e.g. its file.

    Raises:
        ConfigError: it is not YAML, or holds what no specification can, see `problem_in`.
    """
    try:
        tree = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date of no calendar, a number of thousands of digits
        problem = " ".join(str(error).replace('in "<unicode string>", ', "at ").split())
        raise ConfigError([f"{where} not YAML: {shortened(problem, _LONGEST)}"]) from error
    except (
        AttributeError,
        LookupError,
        OverflowError,
        TypeError,
    ) as error:  # PyYAML's, of a tag
        raise ConfigError([f"{where} not YAML: a value is not what its tag (!!) says; remove the tag"]) from error
    except RecursionError as error:
        raise ConfigError([f"{where} YAML that cannot be read: its brackets or lists are nested too deeply"]) from error
    if (problem_found := problem_in(tree)) is not None:
        raise ConfigError([f"{where} YAML that cannot be used: {problem_found}"])
    return tree


def number_meant(value: Any) -> str | None:
    """How YAML wants a number to be written that it reads as text, e.g. 1e9; None for all else."""
    if not isinstance(value, str) or not _POWER.fullmatch(value):
        return None
    number = float(value)
    return str(int(number)) if number.is_integer() else f"{number:f}"
