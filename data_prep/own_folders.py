"""Folders that a preparation makes for itself beside its output: told from anybody else's, and removed piece by piece.

Such a folder is known by the lock in it, which is the first file there and the last to go, and by the names beside it.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

from smoe_ds.errors import DataError

LOCK = "lock"
_SHOWN = 5
_OPEN_ON_NFS = ".nfs"  # what its client calls a file that was removed while it was open


def check_own(folder: Path, places: Sequence[str], output: Path) -> None:
    """Makes sure that a folder is missing, empty or a preparation's own.

    Args:
        folder: the folder.
        places: what a preparation calls the files and folders in it besides the lock; patterns of `fnmatch`.
        output: what it is needed for, for the error.

    Raises:
        DataError: it holds something else, or cannot be read.
    """
    others = _others(folder, places, output)
    if others:
        raise DataError(
            f"{folder}: holds {shown(others)}, not known as a preparation's own, and {output} is prepared in a folder "
            "of this name; move, rename or remove it, or choose another output"
        )


def is_own(folder: Path, places: Sequence[str], output: Path) -> bool:
    """Whether a folder is there, and empty or a preparation's own; arguments as for `check_own`."""
    return folder.is_dir() and not _others(folder, places, output)


def _others(folder: Path, places: Sequence[str], output: Path) -> list[str]:
    """What a preparation did not put there: everything, where the lock is missing."""
    try:
        names = sorted(path.name for path in folder.iterdir() if not path.name.startswith(_OPEN_ON_NFS))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DataError(f"{folder}: {error.strerror}; {output} is prepared in a folder of this name") from error
    if LOCK not in names:
        return names
    return [name for name in names if name != LOCK and not any(fnmatch(name, place) for place in places)]


def clear(folder: Path, places: Sequence[str]) -> None:
    """Removes what a preparation put into its folder, but for the lock."""
    with suppress(FileNotFoundError):
        for path in list(folder.iterdir()):
            if any(fnmatch(path.name, place) for place in places):
                remove(path)


def remove_own(folder: Path, places: Sequence[str]) -> None:
    """Removes a preparation's own folder; the caller holds the lock. It stays if something else is in it."""
    clear(folder, places)
    with suppress(OSError):
        if list(folder.iterdir()) == [folder / LOCK]:
            (folder / LOCK).unlink()
        folder.rmdir()


def remove(path: Path) -> None:
    """Removes a file or a folder, as far as that can be done."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def shown(names: Sequence[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
