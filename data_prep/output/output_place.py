"""Where an output can be: in a folder of its own, which can be put in its place as a whole at the end."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from data_prep.own_folders import shown
from smoe_ds.data.manifest import FORMAT, MANIFEST, read_manifest, shard_files
from smoe_ds.errors import DataError

_LONGEST = 250  # bytes of a name, of the 255 that file systems take; `.work` and `.crew` are appended
_LAYOUT = re.compile(
    r"(manifest|report)\.json|tokenizer\.model|(train|valid|test)/[^/]+/[^/]+\.(bin|idx|crc)|text/[^/]+"
)
"""Files of a corpus whose manifest cannot be read."""


def output_place(output: Path) -> Path:
    """The folder that is written: the target of a link, not the link.

    Args:
        output: as the user names it.

    Raises:
        DataError: a corpus cannot be put there.
    """
    if "\0" in str(output):
        raise DataError(f"{str(output)!r}: a folder's name cannot have a NUL character; choose another output")
    try:
        _check_name(output)
        place = output.resolve() if output.is_symlink() or output.name in ("", "..") else output
        _check_name(place)
        mounted = place.is_mount()
    except (OSError, RuntimeError, UnicodeError) as error:  # RuntimeError: a link that leads to itself
        problem = getattr(error, "strerror", None) or error
        raise DataError(f"{str(output)[:200]!r}: cannot be an output ({problem}); choose another one") from error
    if not place.name:
        raise DataError(f"{output}: is the root of the file system; choose a folder in it as output")
    if mounted:
        raise DataError(
            f"{output}: a file system is mounted there, but a finished corpus takes the place of a whole folder; "
            f"choose a folder in it, e.g. {output / 'corpus'}"
        )
    return place


def _check_name(place: Path) -> None:
    size = len(os.fsencode(place.name))
    if size > _LONGEST:
        raise DataError(
            f"{place.name[:40]}...: the output's name has {size} bytes, at most {_LONGEST} are possible; shorten it"
        )


def check_outside(output: Path) -> None:
    """Makes sure that an output is in no corpus.

    Raises:
        DataError: it is; the corpus's files are all its own, and replaced as a whole.
    """
    for folder in output.resolve().parents:
        if _is_corpus(folder):
            raise DataError(f"{output}: is inside the corpus {folder}; choose an output outside of it")


def check_replaceable(output: Path) -> None:
    """Makes sure that nothing is lost with a folder but a corpus.

    Raises:
        DataError: it holds something else.
    """
    others = _other_files(output)
    if others:
        raise DataError(
            f"{output}: is not replaced, since it also holds {shown(others)}, which {MANIFEST} does not list; move "
            "this elsewhere or choose another output"
        )


def _is_corpus(folder: Path) -> bool:
    try:
        with (folder / MANIFEST).open("rb") as file:
            return f'"{FORMAT}"'.encode() in file.read(1024)
    except OSError:
        return False


def _other_files(corpus: Path) -> list[str]:
    """Files in the folder of a corpus that are none of its own; names relative to it."""
    found = sorted(_files(corpus))
    try:
        listed = {MANIFEST, *(name for name, _ in shard_files(read_manifest(corpus)))}
    except DataError:  # damaged or of another version: told by the names
        if "tokenizer.model" not in found:
            return found
        return [name for name in found if not _LAYOUT.fullmatch(name)]
    return [name for name in found if name not in listed]


def _files(folder: Path) -> Iterator[str]:
    for root, folders, files in os.walk(folder, onerror=_raise):
        links = [name for name in folders if (Path(root) / name).is_symlink()]
        yield from (str((Path(root) / name).relative_to(folder)) for name in [*files, *links])


def _raise(error: OSError) -> None:
    raise DataError(f"{error.filename}: {error.strerror}; make the folder readable or choose another output") from error
