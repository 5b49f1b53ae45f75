"""Short names for runs, each different from the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from smoe_ds.errors import DataError


def run_names(paths: Sequence[Path]) -> list[str]:
    """The last part of each path, with as many of those before it as tell all paths apart.

    Raises:
        DataError: two paths are the same place.
    """
    real = [path.resolve() for path in paths]
    for number, path in enumerate(real):
        if path in real[:number]:
            raise DataError(f"{paths[number]}: is named twice; name each run once")
    length = 1
    while len(set(names := [str(Path(*path.parts[-length:])) for path in real])) < len(real):
        length += 1
    return names
