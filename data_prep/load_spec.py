"""Reads a specification: YAML without surprises, overrides from the command line, errors in one line each."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from data_prep.expand_list import expand
from data_prep.pair_lists import PairList
from data_prep.sources import (
    JsonLinesSource,
    MediaWikiFiles,
    MediaWikiSource,
    MoSource,
    PoSource,
    TextPairSource,
    TmxSource,
    TsvSource,
)
from data_prep.spec import Clean, ExpectedLines, HeldOut, PairSpec, SentencePieceSpec, Shards, Spec
from smoe_ds.config.nearest import nearest
from smoe_ds.config.problems import dotted, found
from smoe_ds.errors import ConfigError

SHIPPED = Path(__file__).parent / "specs"
SECTIONS: dict[str, type[BaseModel]] = {
    "held_out": HeldOut,
    "clean": Clean,
    "sentencepiece": SentencePieceSpec,
    "shards": Shards,
    "pairs": PairSpec,
    "expect": ExpectedLines,
    "pair_list": PairList,
}
SOURCES: dict[str, type[BaseModel]] = {
    "text": TextPairSource,
    "tsv": TsvSource,
    "tmx": TmxSource,
    "jsonl": JsonLinesSource,
    "mo": MoSource,
    "po": PoSource,
    "mediawiki": MediaWikiSource,
}


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, but a key that is written twice is an error and not the last one's value."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for position, (key_node, _) in enumerate(node.value):
            if keys[position] in keys[:position]:
                problem = f"key {keys[position]!r} is written twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
        return super().construct_mapping(node, deep)


def find_spec(name: Path) -> tuple[Path, Path]:
    """The file of a specification, and the folder that its relative paths are relative to.

    Args:
        name: the file, whose folder it is; or a corpus that is known by name, or its file as it is shipped, where it is
            the current folder.
    """
    shipped = SHIPPED / f"{name}.yaml"
    if name.parent == Path() and not name.is_file() and shipped.is_file():
        return shipped, Path.cwd()
    folder = name.resolve().parent
    return name, Path.cwd() if folder == SHIPPED.resolve() else folder


def load_spec(path: Path, overrides: Sequence[str] = (), base: Path | None = None) -> Spec:
    """Reads and checks a specification.

    Args:
        path: the YAML file.
        overrides: ``key=value`` each, the key dotted (``sentencepiece.vocab_size=4000``), the value YAML.
        base: folder that its relative paths are relative to; None: the file's.

    Raises:
        ConfigError: the file is missing or no YAML, or a key or value is wrong; all problems at once.
        DataError: files of its pair list are missing.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; expected a corpus specification in YAML") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: no YAML: {_one_line(error)}") from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path}: expected keys such as output and pairs, {found(content)}; see data_prep/example.yaml"
        )
    for override in overrides:
        _apply(content, override)
    spec = _validated(content, path)
    if spec.pair_list is None:
        return spec
    return _validated(expand(spec.pair_list, content, base or path.resolve().parent), path)


def _validated(content: dict[str, Any], path: Path) -> Spec:
    try:
        return Spec.model_validate(content)
    except ValidationError as error:
        raise ConfigError([f"{path}: {problem}" for problem in _problems(error)]) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).replace('in "<unicode string>", ', "at ").split())


def _apply(content: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    path = key.strip().split(".")
    if not equals or not all(path):
        raise ConfigError(f"--set {override}: expected KEY=VALUE, e.g. --set sentencepiece.vocab_size=4000")
    for name in path[:-1]:
        content = content.setdefault(name, {})
        if not isinstance(content, dict):
            raise ConfigError(f"--set {override}: {name} is no section; sections are {', '.join(SECTIONS)}")
    try:
        content[path[-1]] = yaml.load(value, _Loader)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: value is no YAML: {_one_line(error)}") from error


def _problems(error: ValidationError) -> Iterator[str]:
    """One line for each of pydantic's complaints."""
    for entry in error.errors(include_url=False):
        place, section = _place(entry["loc"])
        message = entry["msg"].removeprefix("Value error, ")
        if entry["type"] == "extra_forbidden":
            near = nearest(place.rpartition(".")[2], section.model_fields)
            known = ", ".join(section.model_fields)
            message = f"unknown key; did you mean {near}?" if near else f"unknown key; known here: {known}"
        elif entry["type"] == "missing":
            message = f"missing; {section.model_fields[str(entry['loc'][-1])].description or 'write it'}"
        elif entry["type"] != "value_error":
            message = f"{message}, {found(entry['input'])}"
        if entry["input"] is True or entry["input"] is False:
            message += "; YAML reads no, yes, on and off as true or false: quote them"
        yield f"{place}: {message}" if place else message


def _place(location: Sequence[str | int]) -> tuple[str, type[BaseModel]]:
    """Dotted key of pydantic's location, without the names of union members, and the section it lies in."""
    section: type[BaseModel] = Spec
    parts: list[str | int] = []
    for position, part in enumerate(location):
        is_tag = position > 0 and isinstance(location[position - 1], int) and part in SOURCES
        if is_tag:
            section = SOURCES[str(part)]
            continue
        parts.append(part)
        if position < len(location) - 1:
            section = SECTIONS.get(str(part), MediaWikiFiles if part == "mediawiki" else section)
    return dotted(parts), section
