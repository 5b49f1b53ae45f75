"""The resource level of each direction: by the corpus, or by a file of groups.

The file is YAML (or JSON): the name of each group, and its languages, pairs or directions. A pair stands for both of
its directions.

    high: [msa, tgl]
    low: [nso, eng-cat]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from smoe_ds.config.yaml_text import read_yaml
from smoe_ds.errors import DataError
from smoe_ds.text_line import hidden_in

_EXAMPLE = "write one group a line, for example low: [nso, cat]"


def resource_levels(
    directions: Sequence[str], of_corpus: Mapping[str, str], file: Path | None
) -> tuple[str | None, ...]:
    """The level of each direction; None where it has none.

    Args:
        directions: their names.
        of_corpus: levels of the corpus's pairs, as its manifest has them.
        file: of groups, in place of the corpus's.

    Raises:
        DataError: the file cannot be read, is no such file, or names none of the directions.
    """
    by_name = of_corpus if file is None else read_groups(file)
    levels = tuple(level_of(direction, by_name) for direction in directions)
    if file is not None and not any(levels):
        raise DataError(f"--groups {file}: has no group of {', '.join(directions[:5])}; {_EXAMPLE}")
    return levels


def level_of(direction: str, by_name: Mapping[str, str]) -> str | None:
    """The level of a direction: its own, its pair's, or that of its languages, if those that have one agree.

    Args:
        direction: e.g. ``eng-nso``.
        by_name: levels of directions, pairs and languages.
    """
    source, target = direction.split("-")
    for name in (direction, f"{target}-{source}"):
        if name in by_name:
            return by_name[name]
    found = {by_name[language] for language in (source, target) if language in by_name}
    return found.pop() if len(found) == 1 else None


def read_groups(file: Path) -> dict[str, str]:
    """The group of every name in a file of groups.

    Raises:
        DataError: the file cannot be read, is no such file, or has a name in two groups.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--groups {file}: cannot be read ({error}); {_EXAMPLE}") from None
    tree = read_yaml(text, f"--groups {file}: is")
    if not isinstance(tree, dict) or not tree:
        raise DataError(f"--groups {file}: expected groups with their languages; {_EXAMPLE}")
    by_name: dict[str, str] = {}
    for group, names in tree.items():
        _check_group(file, group, names)
        for name in names:
            if by_name.setdefault(name, group) != group:
                raise DataError(f"--groups {file}: {name} is in {by_name[name]} and in {group}; take it out of one")
    return by_name


def _check_group(file: Path, group: object, names: object) -> None:
    if not isinstance(group, str) or not group.strip() or hidden_in(group) or group == "all":
        raise DataError(f"--groups {file}: {group!r} cannot be the name of a group; {_EXAMPLE}")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f'--groups {file}: {group}: expected a list of codes, "no" in quotes; {_EXAMPLE}')
