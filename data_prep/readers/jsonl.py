"""One file with a JSON object a line, the two sides under keys of their own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator

from data_prep.readers.block import Block
from data_prep.readers.file_name import FileName
from data_prep.readers.lines import LineReader
from data_prep.readers.notes import Notes
from data_prep.readers.sides import Side, SidePair, Unusable, side_of
from data_prep.readers.source import Reading, Source, in_blocks, two_different
from smoe_ds.config.nearest import nearest
from smoe_ds.errors import DataError


class JsonLinesSource(Source):
    """One file, plain or compressed, with a JSON object a line."""

    jsonl: FileName = Field(description="The file.")
    keys: list[str] | None = Field(
        None,
        description="Keys of the first and second language. A dot leads into an object: "
        "[translation.en, translation.nso]. null: the pair's own codes.",
    )

    @field_validator("keys")
    @classmethod
    def _two_keys(cls, keys: list[str] | None) -> list[str] | None:
        return two_different("keys", keys, "[translation.en, translation.nso]")

    def files(self) -> tuple[str, ...]:
        return (self.jsonl,)

    def blocks(self, paths: Sequence[Path], reading: Reading) -> Iterator[Block]:
        return in_blocks(
            read_jsonl(paths[0], self.keys or reading.languages, reading.notes, refuse_invalid=reading.refuse_invalid)
        )


def read_jsonl(path: Path, keys: Sequence[str], notes: Notes, *, refuse_invalid: bool) -> Iterator[SidePair]:
    """Yields the texts under two keys of every line; a blank line gives two empty sides, and null an empty one.

    Args:
        path: the file, plain or compressed.
        keys: the two keys; a dot leads into an object, as in ``translation.en``.
        notes: what was fixed or is invalid, added to.
        refuse_invalid: see `LineReader`.

    Raises:
        DataError: a line is no JSON object, lacks a key or has something else than text under it, or the file cannot
            be read; see `LineReader`.
    """
    first, second = (key.split(".") for key in keys)
    reader = LineReader(path, notes, refuse_invalid=refuse_invalid)
    for line in reader:
        if isinstance(line, Unusable):
            yield line, line
        elif not line.strip():
            yield "", ""
        else:
            place = f"{path}: line {reader.num_lines}"
            content = _object(line, place)
            yield _side(content, first, place), _side(content, second, place)


def _object(line: str, place: str) -> dict[str, Any]:
    try:
        content = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{place}: not JSON ({error.msg}, column {error.colno}); fix or remove the line") from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets in brackets
        raise DataError(f"{place}: JSON that cannot be read ({error}); fix or remove the line") from error
    if not isinstance(content, dict):
        raise DataError(f"{place}: has a JSON {type(content).__name__}, expected an object such as {{...}}")
    return content


def _side(content: dict[str, Any], path: Sequence[str], place: str) -> Side:
    value: Any = content
    for depth, name in enumerate(path):
        key = ".".join(path[: depth + 1])
        if not isinstance(value, dict):
            raise DataError(f"{place}: {'.'.join(path[:depth])} is not an object, so there is no {key}; set 'keys'")
        if name not in value:
            near = nearest(name, value)
            here = [".".join([*path[:depth], other]) for other in ([near] if near else list(value)[:10])]
            hint = f"did you mean {here[0]}?" if near else f"keys here: {', '.join(here) or 'none'}"
            raise DataError(f"{place}: lacks the key {key}; {hint} (set 'keys')")
        value = value[name]
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(f"{place}: {'.'.join(path)} is not text but {type(value).__name__}; set 'keys'")
    return side_of(value)
