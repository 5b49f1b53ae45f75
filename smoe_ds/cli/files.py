"""Files and folders that a command writes where ``--output`` says, without harm to what it reads."""

from __future__ import annotations

import io
import json
import os
import stat
from collections.abc import Collection
from pathlib import Path
from typing import BinaryIO

from smoe_ds.errors import DataError


def check_apart(source: BinaryIO, sink: Path | BinaryIO, name: str) -> None:
    """Refuses to write into the file that is read, by whatever name, link or redirection.

    Args:
        source: what is read.
        sink: what is written; a path is looked at before it is opened, since opening it empties it.
        name: the input's name, for the message.

    Raises:
        DataError: both are one file.
    """
    read, written = _regular_file(source), _regular_file(sink)
    if read is not None and written is not None and os.path.samestat(read, written):
        raise DataError(f"{name}: is the output too, and would be lost; write to another file")


def check_outside(output: Path | None, folder: Path) -> None:
    """Refuses to replace a file of a model's folder: its configuration, vocabulary or weights.

    Raises:
        DataError: ``output`` is such a file.
    """
    if output is not None and output.is_file() and output.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"--output {output}: is a file in the folder of the model, {folder}; write to another file")


def _regular_file(place: Path | BinaryIO) -> os.stat_result | None:
    """The status of a file on disk; None for terminals, pipes, /dev/null, and what is not there."""
    try:
        status = place.stat() if isinstance(place, Path) else os.fstat(place.fileno())
    except (OSError, io.UnsupportedOperation):
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def check_replaceable(output: Path, keys: Collection[str], what: str) -> None:
    """Lets a command replace what it wrote itself, and an empty file, but nothing else.

    Args:
        output: a JSON file to write.
        keys: some that every such file has.
        what: what it holds, for the message.

    Raises:
        DataError: something else is there.
    """
    if output.exists() and not _is_own(output, keys):
        raise DataError(f"--output {output}: exists and does not hold {what}; choose another file")


def _is_own(file: Path, keys: Collection[str]) -> bool:
    if not file.is_file():
        return False
    try:
        text = file.read_text(encoding="utf-8")
        content = json.loads(text) if text else dict.fromkeys(keys)
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and set(keys) <= content.keys()


def check_page(output: Path, mark: str, what: str, example: Path) -> None:
    """Lets a command replace a page that it wrote itself, and an empty file, but nothing else.

    Args:
        output: an HTML file to write.
        mark: stands near the beginning of every such page.
        what: what it is, for the message: ``a report``.
        example: a file to name instead of a folder.

    Raises:
        DataError: something else is there, or it cannot be a file.
    """
    if output.is_dir():
        raise DataError(f"{output}: is a folder; name a file, e.g. {example}")
    if output.is_file():
        with output.open("rb") as file:
            start = file.read(4096)
        if start and mark.encode() not in start:
            raise DataError(f"{output}: exists and does not hold {what}; choose another file")
    elif output.exists():
        raise DataError(f"{output}: is no file; choose another place")
    make_folder(output.parent)


def make_folder(path: Path) -> Path:
    """Creates a folder before the work begins, so that a place that cannot be written costs no time.

    Raises:
        DataError: it cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{path}: cannot be created: {error.strerror}; choose another place with --output") from error
    return path


def write_text(path: Path, text: str) -> None:
    """Creates or replaces a small file at once.

    Raises:
        DataError: it cannot be written.
    """
    from smoe_ds.checkpoints.commit import write_text_durably

    try:
        write_text_durably(path, text)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}; choose another place with --output") from error
