"""Every key of a run file with its default and one line about it, from the typed sections themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic_core import PydanticUndefined

from smoe_ds.config.load import RunFile
from smoe_ds.config.problems import all_keys, kinds_at, section_of, without_kinds


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
    """All keys in the order of the sections; a section itself is left out, its keys follow.

    Of a key that may hold sections of several kinds, those of each kind follow in turn.
    """
    for path in all_keys(RunFile):
        kinds = kinds_at(RunFile, path)
        if section_of(RunFile, path) is not None or kinds:
            continue
        owner = section_of(RunFile, path[:-1])
        assert owner is not None
        info = owner.model_fields[path[-1]]
        written = without_kinds(RunFile, path)
        if info.default is PydanticUndefined:
            default = "required"
        elif info.default is None:
            default = "null" if path[0] == "smoe" else "-"
        else:
            default = json.dumps(info.default)
        text = info.description or ""
        if len(written) < len(path) and path[-1] != "kind":
            text = f"{path[-2]}: {text}"
        yield KeyDescription(".".join(map(str, written)), default, text)
