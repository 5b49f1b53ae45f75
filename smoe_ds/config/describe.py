"""Every key of a run file with its default and one line about it, from the typed sections themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic_core import PydanticUndefined

from smoe_ds.config.load import RunFile
from smoe_ds.config.problems import all_keys, section_of


@dataclass(frozen=True)
class KeyDescription:
    """A key that a run file may set.

    Attributes:
        key: dotted.
        default: as JSON; ``required``, or ``-`` when DeepSpeed's own default stays.
        text: what it is.
    """

    key: str
    default: str
    text: str


def describe_keys() -> Iterator[KeyDescription]:
    """All keys in the order of the sections; a section itself is left out, its keys follow."""
    for path in all_keys(RunFile):
        if section_of(RunFile, path) is not None:
            continue
        owner = section_of(RunFile, path[:-1])
        assert owner is not None
        info = owner.model_fields[path[-1]]
        if info.default is PydanticUndefined:
            default = "required"
        elif info.default is None:
            default = "null" if path[0] == "smoe" else "-"
        else:
            default = json.dumps(info.default)
        yield KeyDescription(".".join(path), default, info.description or "")
