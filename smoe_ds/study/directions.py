"""The directions of a study, and the groups of them that have means: the paper's, or those that the study names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from smoe_ds.evaluate.averages import groups
from smoe_ds.study.row import Row

ALL = "all"


def directions_of(rows: Sequence[Row]) -> list[str]:
    """The directions of all rows, each once, those from the pivot first."""
    names = list(dict.fromkeys(name for row in rows for name in (*row.nll, *row.scores)))
    order = [place for own in groups(names, smallest=1).values() for place in own] if names else []
    return [names[place] for place in dict.fromkeys(order)]


def groups_of(rows: Sequence[Row], named: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The directions of each group; all of them are the last one.

    Args:
        rows: of the study.
        named: languages of groups that the study names; none: resource levels as the rows have them.
    """
    names = directions_of(rows)
    levels = {direction: level for row in rows for direction, level in row.levels.items()}
    found = groups(names, [] if named else [levels.get(name) for name in names]) if names else {}
    of = {group: [names[place] for place in places] for group, places in found.items()}
    everything = of.pop(ALL, names)
    for group, languages in named.items():
        of[group] = [name for name in names if set(name.split("-")) & set(languages)]
    return of | {ALL: everything}
