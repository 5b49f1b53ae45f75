"""Reads a specification: YAML without surprises, overrides from the command line, errors in one line each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from data_prep.readers import KINDS
from data_prep.spec.expand_list import expand
from data_prep.spec.pair_lists import PairList
from data_prep.spec.sections import Clean, ExpectedLines, HeldOut, PairSpec, SentencePieceSpec, Shards, Spec
from data_prep.spec.sources import section_in
from smoe_ds.config.nearest import nearest
from smoe_ds.config.problems import MOST_PROBLEMS, dotted, found, shortened
from smoe_ds.config.tree_limits import DEEPEST
from smoe_ds.config.yaml_text import number_meant, read_yaml
from smoe_ds.errors import ConfigError
from smoe_ds.regular_file import read_regular

LARGEST_FILE = 4 * 1024 * 1024
"""Bytes of a specification; one with a thousand pairs has a tenth of that."""
_LONGEST = 1000  # characters of a problem
SHIPPED = Path(__file__).parent / "shipped"
SECTIONS: dict[str, type[BaseModel]] = {
    "held_out": HeldOut,
    "clean": Clean,
    "sentencepiece": SentencePieceSpec,
    "shards": Shards,
    "pairs": PairSpec,
    "expect": ExpectedLines,
    "pair_list": PairList,
}


def find_spec(name: Path) -> tuple[Path, Path]:
    """The file of a specification, and the folder that its relative paths are relative to.

    Args:
        name: the file, whose folder it is; or a corpus that is known by name, or its file as it is shipped, where it is
            the current folder.
    """
    shipped = SHIPPED / f"{name}.yaml"
    try:
        if name.parent == Path() and not name.is_file() and shipped.is_file():
            return shipped, Path.cwd()
        folder = name.resolve().parent
    except (OSError, ValueError):  # no name of a file; reading it says why
        return name, Path.cwd()
    return name, Path.cwd() if folder == SHIPPED.resolve() else folder


def load_spec(path: Path, overrides: Sequence[str] = (), base: Path | None = None) -> Spec:
    """Reads and checks a specification.

    Args:
        path: the YAML file.
        overrides: ``key=value`` each, the key dotted (``sentencepiece.vocab_size=4000``), the value YAML.
        base: folder that its relative paths are relative to; None: the file's.

    Raises:
        ConfigError: the file is missing or not YAML, or a key or value is wrong; all problems at once.
        DataError: files of its pair list are missing.
    """
    content = read_spec(path)
    for override in overrides:
        _apply(content, override)
    if "left_out" in content:
        raise ConfigError(f"{path}: left_out: is filled in by the program; remove it")
    spec = _validated(content, path)
    if spec.pair_list is None:
        return spec
    return _validated(expand(spec.pair_list, content, base or path.resolve().parent), path)


def read_spec(path: Path) -> dict[str, Any]:
    """The keys and values of a specification, as they are written.

    Raises:
        ConfigError: the file is missing or not YAML, or holds no keys.
    """
    try:
        content = read_yaml(read_regular(path, LARGEST_FILE).decode("utf-8"), f"{path}:")
    except OSError as error:
        name = shortened(str(path), 200)
        raise ConfigError([f"{name}: {error.strerror}; expected {_expected(path)}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path}: expected keys such as output and pairs, {found(content)}; see data_prep/example.yaml"
        )
    return content


def _expected(path: Path) -> str:
    """What could have been at a place that cannot be read."""
    if path.parent != Path():
        return "a corpus specification in YAML"
    names = sorted(file.stem for file in SHIPPED.glob("*.yaml"))
    near = nearest(path.name.lower(), names)
    hint = f"; did you mean {near}?" if near else ""
    return f"a corpus specification in YAML, or the name of a known corpus ({', '.join(names)}){hint}"


def _validated(content: dict[str, Any], path: Path) -> Spec:
    try:
        return Spec.model_validate(content)
    except ValidationError as error:
        problems = [f"{path}: {problem}" for problem in islice(_problems(error), MOST_PROBLEMS)]
        more = error.error_count() - len(problems)
        raise ConfigError([*problems, *([f"{path}: and {more:,} more problems"] if more else [])]) from error


def _apply(content: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    path = re.sub(r"\[(\d+)\]", r".\1", key.strip()).split(".")  # pairs[0], as in messages, is pairs.0
    where = f"--set {shortened(override, 200)}:"
    if not equals or not all(path):
        raise ConfigError([f"{where} expected KEY=VALUE, e.g. --set sentencepiece.vocab_size=4000"])
    if len(path) > DEEPEST:
        raise ConfigError([f"{where} a key of {len(path):,} parts; none has more than a few"])
    for name in path[:-1]:
        if content.get(name) is None:
            content[name] = {}
        content = content[name]
        if isinstance(content, list):
            raise ConfigError(
                [f"{where} {name} is a list, and --set cannot change its entries; change them in the file"]
            )
        if not isinstance(content, dict):
            sections = [name for name in SECTIONS if name in Spec.model_fields and name != "pairs"]
            raise ConfigError([f"{where} {name} is not a section; sections are {', '.join(sections)}"])
    content[path[-1]] = read_yaml(value, f"{where} value is")


def _problems(error: ValidationError) -> Iterator[str]:
    """One line for each of pydantic's complaints."""
    for entry in error.errors(include_url=False):
        place, section = _place(entry["loc"])
        message = entry["msg"].removeprefix("Value error, ")
        if entry["type"] == "extra_forbidden":
            near = nearest(place.rpartition(".")[2], section.model_fields)
            known = ", ".join(name for name in section.model_fields if name != "left_out")
            message = f"unknown key; did you mean {near}?" if near else f"unknown key; known here: {known}"
        elif entry["type"] == "missing":
            message = f"missing; {section.model_fields[str(entry['loc'][-1])].description or 'write it'}"
        elif entry["type"] != "value_error":
            message = f"{message}, {found(entry['input'])}"
            number = number_meant(entry["input"])
            message += f"; write {number}" if number else ""
        if entry["input"] is True or entry["input"] is False:
            message += "; YAML reads no, yes, on and off as true or false: quote them"
        message = shortened(message, _LONGEST)
        yield f"{place}: {message}" if place else message


def _place(location: Sequence[str | int]) -> tuple[str, type[BaseModel]]:
    """Dotted key of pydantic's location, without the names of union members, and the section it lies in."""
    section: type[BaseModel] = Spec
    parts: list[str | int] = []
    for position, part in enumerate(location):
        is_tag = position > 0 and isinstance(location[position - 1], int) and part in KINDS
        if is_tag:
            section = KINDS[str(part)]
            continue
        parts.append(part)
        if position < len(location) - 1:
            section = SECTIONS.get(str(part)) or section_in(section, str(part)) or section
    return dotted(parts), section
