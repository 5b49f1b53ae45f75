"""Makes files and folders appear all at once or not at all, also when the machine dies in between."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Collection
from pathlib import Path

_TEMPORARY = ".tmp-"


def temporary_folder(final: Path) -> Path:
    """Creates ``NAME.tmp-TOKEN`` beside `final`; what it holds counts for nothing until `commit_folder`."""
    folder = final.with_name(f"{final.name}{_TEMPORARY}{secrets.token_hex(4)}")
    folder.mkdir(parents=True)
    return folder


def commit_folder(temporary: Path, final: Path) -> None:
    """Gives a finished folder its name, durably. An older folder of that name (one that was refused) makes room."""
    sync_folder(temporary)
    if final.exists():
        discard_folder(final)
    temporary.rename(final)
    sync_folder(final.parent)


def discard_folder(folder: Path) -> None:
    """Removes a folder such that no half of it is ever seen under its name."""
    doomed = folder.with_name(f"{folder.name}{_TEMPORARY}{secrets.token_hex(4)}")
    folder.rename(doomed)
    shutil.rmtree(doomed)


def remove_leftovers(root: Path, *patterns: str) -> None:
    """Removes what killed runs left half-done: temporary folders and files, names matching ``PATTERN.tmp-*``."""
    for pattern in patterns:
        for path in root.glob(f"{pattern}{_TEMPORARY}*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def prune(folders: Collection[Path], keep: Collection[Path]) -> None:
    """Removes the folders that are not to be kept."""
    for folder in folders:
        if folder not in keep:
            discard_folder(folder)


def write_text_durably(path: Path, text: str) -> None:
    """Creates or replaces a small file at once: readers see the old text or the new one."""
    temporary = path.with_name(f"{path.name}{_TEMPORARY}{secrets.token_hex(4)}")
    try:
        with temporary.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:  # a full disk: nothing half-done stays
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Forces a folder's entries to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
