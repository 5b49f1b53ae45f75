"""Whether the files of a prepared corpus are those that were written: a quick look at sizes, or every byte of them."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from smoe_ds.data.blocks import SUM_DTYPE, num_blocks
from smoe_ds.data.manifest import MANIFEST, shard_files
from smoe_ds.data.shard_reader import ShardSide
from smoe_ds.data.shards import OFFSET_BLOCK, OFFSET_DTYPE, TOKEN_BLOCK, sha256_of, token_dtype
from smoe_ds.errors import DataError

_REMEDY = "restore the file or prepare the corpus again with --overwrite"
_CHECKED = ("bin", "idx")
_SHOWN_BLOCKS = 3
_IDS_AT_A_TIME = 1 << 22


@dataclass(frozen=True)
class _Side:
    """One language of one shard, as the manifest has it."""

    folder: Path
    shard: dict[str, Any]
    entry: dict[str, Any]
    vocab_size: int

    @property
    def dtype(self) -> np.dtype:
        return token_dtype(self.vocab_size)


def check_sizes(folder: Path, manifest: dict[str, Any]) -> None:
    """Compares existence and size of every file, and the ends of every offset table, with the manifest.

    Raises:
        DataError: names the first file that differs, what it should hold and where it ends.
    """
    for name, entry in shard_files(manifest):
        problem = _size_problem(folder / name, entry)
        if problem is not None:
            raise DataError(f"{problem}; {_REMEDY}")
    for side in _sides(folder, manifest):
        problem = _count_problem(side)
        if problem is not None:
            raise DataError(f"{problem}; {_REMEDY}")


def find_damage(
    folder: Path, manifest: dict[str, Any], *, threads: int | None = None, progress: Callable[[int], None] | None = None
) -> list[str]:
    """Compares every byte of the corpus with the manifest, and the numbers in the files with each other.

    Args:
        folder: folder of the corpus.
        manifest: its manifest.
        threads: files that are read at a time; None: one per processor.
        progress: called with the bytes of each file that was read.

    Returns:
        One line for every damaged or missing file, with the byte offsets that changed where checksums tell them.
    """
    files = list(shard_files(manifest))
    written = {entry["sha256"]: name for name, entry in files}
    sides = {side.folder / side.entry[kind]["file"]: side for side in _sides(folder, manifest) for kind in _CHECKED}

    def look_at(file: tuple[str, dict[str, Any]]) -> str | None:
        name, entry = file
        try:
            return _problem(folder / name, entry, sides.get(folder / name), written)
        except OSError as error:
            return f"{folder / name}: cannot be read: {error.strerror}"
        finally:
            if progress is not None:
                progress(entry["bytes"])

    with ThreadPoolExecutor(threads or _cpus()) as pool:
        problems = [problem for problem in pool.map(look_at, files) if problem is not None]
    return problems + list(_contradictions(folder, manifest))


def _contradictions(folder: Path, manifest: dict[str, Any]) -> Iterator[str]:
    """Counts of a pair that are not those of its shards or of its text."""
    for split, pairs in manifest["splits"].items():
        for pair, entry in pairs.items():
            counts = {"sentences": sum(shard["sentences"] for shard in entry["shards"])}
            counts |= {name: sum(s["sides"][name]["tokens"] for s in entry["shards"]) for name in pair.split("-")}
            if counts != {"sentences": entry["sentences"], **entry["tokens"]}:
                yield f"{folder / MANIFEST}: {split}/{pair}: its shards have {counts}, not what the entry says"
            for text in entry.get("text", {}).values():
                path = folder / "text" / text["file"]
                lines = path.read_bytes().count(b"\n") if path.is_file() else entry["sentences"]
                if lines != entry["sentences"]:
                    yield f"{path}: {lines} lines, expected {entry['sentences']}"


def _sides(folder: Path, manifest: dict[str, Any]) -> Iterator[_Side]:
    for split, pairs in manifest["splits"].items():
        for pair, entry in pairs.items():
            for shard in entry["shards"]:
                for side in shard["sides"].values():
                    yield _Side(folder / split / pair, shard, side, manifest["tokenizer"]["vocab_size"])


def _problem(path: Path, entry: dict[str, Any], side: _Side | None, written: dict[str, str]) -> str | None:
    """What is wrong with a file; ``side`` is the one whose ids or offsets it holds."""
    problem = _size_problem(path, entry)
    if problem is not None:
        return problem
    found = sha256_of(path)
    if found == entry["sha256"]:
        return None if side is None else _number_problem(path, side)
    if found in written:
        return f"{path}: has the content of {written[found]}"
    blocks = None if side is None else _changed_blocks(path, side)
    if blocks:
        return f"{path}: content changed at byte offset {blocks}"
    return f"{path}: content changed: SHA-256 is {found}, {MANIFEST} says {entry['sha256']}"


def _size_problem(path: Path, entry: dict[str, Any]) -> str | None:
    try:
        found = path.stat()
    except OSError as error:
        return f"{path}: {error.strerror}, but {MANIFEST} lists it"
    if not stat.S_ISREG(found.st_mode):
        return f"{path}: is no regular file, but {MANIFEST} lists it"
    size = found.st_size
    if size == entry["bytes"]:
        return None
    what = "empty" if not size else "truncated" if size < entry["bytes"] else "longer than written"
    return f"{path}: {what}: expected {entry['bytes']} bytes, found {size}{_place(path, size)}"


def _place(path: Path, size: int) -> str:
    """Where in a truncated token file the bytes end, if its offset table can tell."""
    index = path.with_suffix(".idx")
    if path.suffix != ".bin" or not index.is_file() or index.stat().st_size % OFFSET_DTYPE.itemsize:
        return ""
    offsets = np.fromfile(index, OFFSET_DTYPE)
    if len(offsets) < 2 or not offsets[-1]:
        return ""
    itemsize = 2 if size <= 2 * int(offsets[-1]) else 4
    sentence = int(np.searchsorted(offsets, size // itemsize, side="right")) - 1
    return f" (ends at byte offset {size}, in sentence {sentence} of {len(offsets) - 1})"


def _manifest_problem(side: _Side) -> str | None:
    """Whether sentences, ids and bytes agree in the manifest."""
    tokens, offsets = side.entry["bin"], side.entry["idx"]
    path = side.folder / offsets["file"]
    expected = (side.shard["sentences"] + 1) * OFFSET_DTYPE.itemsize
    if offsets["bytes"] != expected or tokens["bytes"] != side.entry["tokens"] * side.dtype.itemsize:
        return f"{path}: {MANIFEST} contradicts itself on sentences and bytes"
    blocks = num_blocks(tokens["bytes"], TOKEN_BLOCK) + num_blocks(offsets["bytes"], OFFSET_BLOCK)
    if side.entry["crc"]["bytes"] != blocks * SUM_DTYPE.itemsize:
        return f"{side.folder / side.entry['crc']['file']}: {MANIFEST} contradicts itself on blocks and checksums"
    return None


def _count_problem(side: _Side) -> str | None:
    """Whether they agree, in the manifest and with the first and last offset."""
    problem = _manifest_problem(side)
    if problem is not None:
        return problem
    path = side.folder / side.entry["idx"]["file"]
    with path.open("rb") as file:
        first = int(np.frombuffer(file.read(OFFSET_DTYPE.itemsize), OFFSET_DTYPE)[0])
        file.seek(-OFFSET_DTYPE.itemsize, os.SEEK_END)
        last = int(np.frombuffer(file.read(), OFFSET_DTYPE)[0])
    if (first, last) != (0, side.entry["tokens"]):
        return f"{path}: offsets run from {first} to {last}, expected 0 to {side.entry['tokens']} tokens"
    return None


def _number_problem(path: Path, side: _Side) -> str | None:
    """What cannot be right in a file although it is as it was written."""
    problem = _manifest_problem(side)
    if problem is not None:
        return problem
    if path.suffix == ".idx":
        offsets = np.fromfile(path, OFFSET_DTYPE)
        back = np.flatnonzero(offsets[1:] < offsets[:-1])
        return f"{path}: sentence {back[0]} ends before it begins" if len(back) else _count_problem(side)
    ids = np.memmap(path, side.dtype, "r") if side.entry["tokens"] else np.empty(0, side.dtype)
    for start in range(0, len(ids), _IDS_AT_A_TIME):
        largest = int(ids[start : start + _IDS_AT_A_TIME].max())
        if largest >= side.vocab_size:
            return f"{path}: holds id {largest} of a vocabulary of {side.vocab_size}"
    return None


def _changed_blocks(path: Path, side: _Side) -> str | None:
    """Where a changed file differs, if its checksums are left to tell."""
    try:
        blocks = ShardSide(side.folder, side.entry, side.dtype).damaged_blocks(path.suffix)
    except DataError:
        return None
    more = len(blocks) - _SHOWN_BLOCKS
    return ", ".join(blocks[:_SHOWN_BLOCKS]) + (f" and {more} more blocks" if more > 0 else "")


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
