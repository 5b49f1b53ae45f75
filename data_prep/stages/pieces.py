"""Finished pieces of a preparation: files, and a record that vouches for them and says what they were made from.

A piece is there when its record is: its files come first, each written under another name and renamed; the record
follows in the same way. A process may die at any moment and leaves at worst files without a record, which the next run
writes again. Nothing is believed without its SHA-256.

Files of the corpus are flushed to the disk before their record is written. Those on the way to it are not: should the
whole machine fail, those that had not reached the disk yet do not have their SHA-256, and are made again.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from smoe_ds.data.shards import sha256_of
from smoe_ds.errors import DataError

PREPARATION_VERSION = 5
"""Raised when the same specification and text would give another corpus, so that old results are not reused."""

Entry = dict[str, Any]
"""A file as a record lists it: ``file``, ``bytes``, ``sha256``."""


def fingerprint(*parts: Any) -> str:
    """SHA-256 of what a piece is made from, given as JSON values."""
    return hashlib.sha256(json.dumps([PREPARATION_VERSION, *parts], sort_keys=True).encode()).hexdigest()


@contextmanager
def needing(path: Path, size: int) -> Iterator[None]:
    """Turns a full disk into an error that names the file and the space it needs.

    Args:
        path: the file that is written, or its folder.
        size: bytes that are needed for it.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DataError(
            f"{path}: {error.strerror}: it needs {size:,} bytes, {_free(path):,} are free; make room and run the same "
            "command again: it continues from what is finished"
        ) from error


def _free(path: Path) -> int:
    folder = next(folder for folder in path.parents if folder.exists())
    return shutil.disk_usage(folder).free


def sync_folder(folder: Path) -> None:
    """Flushes a folder's list of names to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass(frozen=True)
class Pieces:
    """The pieces of one preparation.

    Attributes:
        root: folder that the files of all pieces are relative to.
    """

    root: Path

    def find(self, name: str, made_from: str) -> Any | None:
        """The result of a finished piece.

        Args:
            name: the piece.
            made_from: fingerprint of what it would be made from now.

        Returns:
            its result; None if there is no such piece, it was made from something else, or a file is not whole.
        """
        record = self._record(name)
        if record is None or record["made_from"] != made_from:
            return None
        return record["result"] if all(self._is_whole(entry) for entry in record["files"]) else None

    def result(self, name: str) -> Any:
        """The result of a piece that was finished or found just now, without looking at its files again."""
        record = self._record(name)
        if record is None:
            raise DataError(f"{self._record_file(name)}: is gone or damaged; something else writes to {self.root}")
        return record["result"]

    def names(self, folder: str) -> list[str]:
        """Names of the pieces in a folder, sorted, as far as their records tell."""
        return sorted(f"{folder}/{path.stem}" for path in (self.root / "records" / folder).glob("*.json"))

    def _record(self, name: str) -> dict[str, Any] | None:
        try:
            record, sha256 = json.loads(self._record_file(name).read_bytes())
        except (OSError, ValueError):
            return None
        return record if fingerprint(record) == sha256 else None

    def _record_file(self, name: str) -> Path:
        return self.root / "records" / f"{name}.json"

    def _is_whole(self, entry: Entry) -> bool:
        path = self.root / entry["file"]
        return path.is_file() and path.stat().st_size == entry["bytes"] and sha256_of(path) == entry["sha256"]

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """A folder of one's own for files on their way; removed afterwards."""
        folder = self.root / "drafts"
        folder.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f"{socket.gethostname()}-{os.getpid()}-", dir=folder))
        try:
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def commit(
        self, name: str, made_from: str, files: Sequence[tuple[Path, str, Entry]], result: Any, *, durable: bool
    ) -> None:
        """Makes a piece a finished one.

        Args:
            name: the piece.
            made_from: fingerprint of what it was made from.
            files: of each file where it was written, its place below the root, and its entry.
            result: JSON that belongs to it.
            durable: the files are flushed already; flush their names and the record too.
        """
        entries = []
        for written, place, entry in files:
            target = self.root / place
            target.parent.mkdir(parents=True, exist_ok=True)
            written.replace(target)
            entries.append({"file": place, "bytes": entry["bytes"], "sha256": entry["sha256"]})
        if durable:
            for folder in {self.root / Path(place).parent for _, place, _ in files}:
                sync_folder(folder)
        self._write_record(name, {"made_from": made_from, "files": entries, "result": result}, durable)

    def _write_record(self, name: str, record: dict[str, Any], durable: bool) -> None:
        data = json.dumps([record, fingerprint(record)]).encode()
        path = self._record_file(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with self.draft() as draft:
            write_file(draft / "record", data, path, durable=durable)
            (draft / "record").replace(path)
        if durable:
            sync_folder(path.parent)

    def commit_data(
        self, name: str, made_from: str, data: dict[str, bytes], result: Any, *, durable: bool = False
    ) -> None:
        """Makes a finished piece of contents in memory, by their places below the root."""
        with self.draft() as draft:
            files = []
            for number, (place, content) in enumerate(data.items()):
                entry = write_file(draft / str(number), content, self.root / place, durable=durable)
                files.append((draft / str(number), place, entry))
            self.commit(name, made_from, files, result, durable=durable)

    def remove(self, name: str) -> None:
        """Removes a piece: its record first, then its files."""
        record = self._record(name)
        self._record_file(name).unlink(missing_ok=True)
        for entry in record["files"] if record else []:
            (self.root / entry["file"]).unlink(missing_ok=True)

    def count(self) -> int:
        """Number of finished pieces, as far as their records tell."""
        return sum(1 for _ in (self.root / "records").rglob("*.json"))


def write_file(path: Path, data: bytes, target: Path, *, durable: bool = True) -> Entry:
    """Writes a file; returns its entry.

    Args:
        path: the file.
        data: its content.
        target: the name it is going to have, for errors.
        durable: flush it to the disk.
    """
    with needing(target, len(data)), path.open("xb") as file:
        file.write(data)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    return {"file": path.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
