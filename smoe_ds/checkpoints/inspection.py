"""Looks at committed checkpoints without ranks or DeepSpeed: what they say of themselves, what is wrong with them."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smoe_ds.checkpoints import format as fmt
from smoe_ds.checkpoints.part_reader import PartReader
from smoe_ds.errors import CheckpointError
from smoe_ds.run_names import CHECKPOINTS

_THREADS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True)
class Summary:
    """A checkpoint in a list.

    Attributes:
        folder: where it lies.
        bytes: size of its files as its manifest has them.
        written: when it was committed, seconds since 1970.
        state: ``state.json``; empty if it cannot be read.
        problems: what is wrong, a file each.
        hashed: whether every byte was read to find that out, not only sizes.
        marks: which of the run's pointers name it: ``best``, ``latest``.
    """

    folder: Path
    bytes: int
    written: float
    state: dict[str, Any]
    problems: tuple[str, ...]
    hashed: bool = False
    marks: tuple[str, ...] = ()

    @property
    def step(self) -> int:
        """Updates of the model."""
        return fmt.step_of(self.folder)

    @property
    def nll(self) -> float | None:
        """The validation loss of the run's newest validation then [nat]."""
        loss: float | None = self.state.get("extra", {}).get("progress", {}).get("validation_nll")
        return loss


def checkpoint_folders(path: Path) -> list[Path]:
    """The checkpoints that a path means, newest first: itself, or those of a folder of them or of a run folder.

    Raises:
        CheckpointError: there is none.
    """
    if fmt.is_checkpoint_name(path.name) and path.is_dir():
        return [path]
    found = fmt.step_folders(path / CHECKPOINTS) or fmt.step_folders(path)
    if not found:
        raise CheckpointError(f"{path}: has no checkpoint; expected folders named like {fmt.folder_name(100)}")
    return found


def summarize(folder: Path, *, hashes: bool) -> Summary:
    """A checkpoint's summary; sizes are compared always, contents where `hashes` is set."""
    found = tuple(problems(folder) if hashes else size_problems(folder))
    marks = tuple(which for which in (fmt.BEST, fmt.LATEST) if fmt.read_pointer(folder.parent, which) == folder.name)
    try:
        manifest = fmt.read_manifest(folder)
        written = (folder / fmt.MANIFEST).stat().st_mtime
    except (CheckpointError, OSError):
        return Summary(folder, 0, folder.stat().st_mtime, {}, found, hashes, marks)
    try:
        state = fmt.read_state(folder) if any(entry.name == fmt.STATE for entry in manifest.files) else {}
    except CheckpointError:
        state = {}
    size = sum(entry.bytes for entry in manifest.files)
    return Summary(folder, size, written, state, found, hashes, marks)


def size_problems(folder: Path) -> list[str]:
    """What is wrong with a checkpoint as far as its manifest and the files' sizes tell; reads next to nothing."""
    try:
        files = fmt.read_manifest(folder).files
    except CheckpointError as error:
        return [str(error)]
    return [text for entry in files if (text := _message(fmt.verify_size, folder, entry))]


def problems(folder: Path) -> list[str]:
    """Everything that is wrong with a checkpoint: every byte of every file is read, several files at a time."""
    try:
        manifest = fmt.read_manifest(folder)
    except CheckpointError as error:
        return [str(error)]
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(lambda entry: _message(fmt.verify_file, folder, entry), manifest.files))
    if wrong := [text for text in found if text]:
        return wrong
    try:
        PartReader(folder, manifest)
        if any(entry.name == fmt.STATE for entry in manifest.files):
            fmt.read_state(folder)
    except CheckpointError as error:
        return [str(error)]
    return []


@dataclass(frozen=True)
class Verification:
    """What reading a whole checkpoint showed.

    Attributes:
        folder: where it lies.
        problems: what is wrong, a file each.
        strangers: names of files that its manifest does not list; nothing reads them.
    """

    folder: Path
    problems: tuple[str, ...]
    strangers: tuple[str, ...]


def verify(folder: Path) -> Verification:
    """Reads every byte of a checkpoint."""
    return Verification(folder, tuple(problems(folder)), tuple(strangers(folder)))


def strangers(folder: Path) -> list[str]:
    """Names of files in a checkpoint's folder that its manifest does not list; nothing reads them."""
    try:
        known = {fmt.MANIFEST, *(entry.name for entry in fmt.read_manifest(folder).files)}
    except CheckpointError:
        return []
    return sorted(path.name for path in folder.iterdir() if path.name not in known)


def _message(check: Any, folder: Path, entry: Any) -> str | None:
    try:
        check(folder, entry)
    except CheckpointError as error:
        return str(error)
    return None
