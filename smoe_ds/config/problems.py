"""One line for every problem: file, dotted key, what was expected, what was found, the remedy."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from smoe_ds.config.nearest import nearest

MOST_PROBLEMS = 50
"""Most problems that one error tells."""
_LONGEST_PART = 80  # characters of a key
Path = tuple[str, ...]
ItemPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """Something wrong at a key of the run."""

    path: ItemPath
    message: str
    missing: bool = False

    def line(self, origins: Mapping[ItemPath, str], run_file: str) -> str:
        """The problem as printed; names the file (or ``--set``) that wrote the key, else the run file itself."""
        prefixes = [] if self.missing else [self.path[:n] for n in range(len(self.path), 0, -1)]
        where = next((origins[prefix] for prefix in prefixes if prefix in origins), run_file)
        return f"{where}: {dotted(self.path)}: {self.message}" if self.path else f"{where}: {self.message}"


def shortened(text: str, longest: int) -> str:
    """A text for a message, its end left out where it has more characters than the longest."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def dotted(path: Iterable[str | int]) -> str:
    """``("smoe", "moe", "strata", 1)`` as ``smoe.moe.strata[1]``; a part that no key has is shortened."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + shortened(part, _LONGEST_PART)
    return text


def sections_of(field: FieldInfo) -> dict[str, type[BaseModel]]:
    """The section classes that a field may hold, by their ``kind``; of a field with one class the name is empty."""
    options = [field.annotation, *get_args(field.annotation)]
    found = [kind for kind in options if isinstance(kind, type) and issubclass(kind, BaseModel)]
    if field.discriminator is None:
        return {"": found[0]} if found else {}
    return {kind.model_fields["kind"].default: kind for kind in found}


def section_of(model: type[BaseModel], path: ItemPath) -> type[BaseModel] | None:
    """The section class at ``path`` below ``model``, or None when there is none.

    Where a key may hold sections of several kinds, the kind is the next name of the path.
    """
    kinds: dict[str, type[BaseModel]] = {}
    for name in path:
        if kinds:
            if str(name) not in kinds:
                return None
            model, kinds = kinds[str(name)], {}
            continue
        field = model.model_fields.get(str(name))
        found = {} if field is None else sections_of(field)
        if not found:
            return None
        if "" in found:
            model = found[""]
        else:
            kinds = found
    return None if kinds else model


def kinds_at(root: type[BaseModel], path: ItemPath) -> dict[str, type[BaseModel]]:
    """The section classes by kind that the key at ``path`` may hold; empty if it is no such key."""
    owner = section_of(root, path[:-1]) if path else None
    field = owner.model_fields.get(str(path[-1])) if owner else None
    found = {} if field is None else sections_of(field)
    return {} if "" in found else found


def without_kinds(root: type[BaseModel], path: ItemPath) -> ItemPath:
    """A path as it is written in a run file: without the kinds that section classes are told apart by."""
    return tuple(name for n, name in enumerate(path) if not kinds_at(root, path[:n]))


def all_keys(model: type[BaseModel], prefix: Path = ()) -> Iterator[Path]:
    """Paths of every field below ``model``, sections included, outer ones first; for kinds see :func:`section_of`."""
    for name, field in model.model_fields.items():
        yield (*prefix, name)
        for kind, section in sections_of(field).items():
            yield from all_keys(section, (*prefix, name, kind) if kind else (*prefix, name))


def unknown_key(root: type[BaseModel], path: ItemPath, refused: Mapping[str, str]) -> str:
    """Message for a key nobody knows, with the nearest known one."""
    section = section_of(root, path[:-1])
    prefix = dotted(without_kinds(root, path[:-1]))
    siblings = {*(section.model_fields if section else ())}
    siblings |= {key.rpartition(".")[2] for key in refused if key.rpartition(".")[0] == prefix}
    elsewhere = [dotted(without_kinds(root, key)) for key in all_keys(root) if key[-1] == path[-1]]
    near = nearest(str(path[-1]), siblings)
    if near is None and not elsewhere:
        return f"unknown key; known here: {', '.join(sorted(section.model_fields)) if section else 'nothing'}"
    meant = elsewhere[0] if near is None else dotted((*without_kinds(root, path[:-1]), near))
    return f"unknown key; did you mean {meant}?"


def found(value: Any) -> str:
    """A value as a reader of the file knows it, with its kind."""
    names = {bool: "boolean", int: "whole number", float: "number", str: "text", list: "list", dict: "object"}
    if value is None:
        return "found null"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return f"found {shortened(text, 60)} ({names.get(type(value), type(value).__name__)})"


_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": 'a list such as ["a", "b"] or [4, 12]',
    "dict_type": "an object {...}",
    "model_type": "an object {...}",
    "model_attributes_type": "an object {...}",
}
_BOUNDS = {
    "greater_than": ("gt", ">"),
    "greater_than_equal": ("ge", ">="),
    "less_than": ("lt", "<"),
    "less_than_equal": ("le", "<="),
}


def rephrase(error: ValidationError, root: type[BaseModel], at: Path, refused: Mapping[str, str]) -> Iterator[Problem]:
    """Pydantic's complaints about the section at path ``at`` of ``root`` as problems, the first ones if very many."""
    entries = error.errors(include_url=False)
    if len(entries) > MOST_PROBLEMS:
        yield Problem(at, f"{len(entries):,} problems, of which the first {MOST_PROBLEMS} follow")
    for entry in entries[:MOST_PROBLEMS]:
        path = (*at, *entry["loc"])
        if entry["type"] == "broken_rules":
            for field, message in entry["ctx"]["broken"]:
                yield Problem((*without_kinds(root, path), *field.split(".")), message)
        else:
            yield Problem(
                without_kinds(root, path), _message(entry, root, path, refused), missing=entry["type"] == "missing"
            )


def _message(entry: Any, root: type[BaseModel], path: ItemPath, refused: Mapping[str, str]) -> str:
    kind, value, context = entry["type"], entry["input"], entry.get("ctx", {})
    if kind == "extra_forbidden":
        return unknown_key(root, path, refused)
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        kinds = list(kinds_at(root, path))
        given = value.get("kind") if isinstance(value, Mapping) else None
        near = nearest(str(given), kinds) if given else None
        hint = f"; did you mean {json.dumps(near)}?" if near else ""
        return f"expected a section whose kind is one of {', '.join(kinds)}, {found(given or value)}{hint}"
    if kind == "missing":
        section = section_of(root, path[:-1])
        return f"missing; {section.model_fields[str(path[-1])].description if section else 'write it'}"
    if kind == "literal_error":
        expected = context["expected"].replace("True", "true").replace("False", "false")  # as JSON spells them
        near = nearest(str(value), [option.strip("'") for option in expected.replace(" or ", ", ").split(", ")])
        hint = f"; did you mean {json.dumps(near)}?" if isinstance(value, str) and near else ""
        return f"expected {expected}, {found(value)}{hint}"
    if kind in _BOUNDS:
        name, sign = _BOUNDS[kind]
        return f"expected a value {sign} {context[name]:g}, {found(value)}"
    if kind in ("too_short", "too_long"):
        bound = context.get("min_length", context.get("max_length"))
        return f"expected {bound} values, {found(value)}"
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, {found(value)}"
    return f"{entry['msg']}, {found(value)}"
