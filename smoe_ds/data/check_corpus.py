"""Reads every byte of a prepared corpus: how much there is, and what is damaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from smoe_ds.data.manifest import read_manifest, shard_files
from smoe_ds.data.verify import find_damage


@dataclass(frozen=True)
class CorpusCheck:
    """What was found.

    Attributes:
        folder: folder of the corpus.
        files: number of files that its manifest lists.
        bytes: their size.
        pairs: sentence pairs of all splits.
        damage: a line for everything that is not as it was written.
    """

    folder: Path
    files: int
    bytes: int
    pairs: int
    damage: tuple[str, ...]


def check_corpus(
    folder: Path, *, threads: int | None, progress: Callable[[int, int], None] = lambda count, total: None
) -> CorpusCheck:
    """Compares every byte with the manifest.

    Args:
        folder: folder of the corpus.
        threads: files that are read at a time; None: one per processor.
        progress: called, by many threads, with the bytes of each file that was read, and the bytes of all files.

    Raises:
        DataError: there is no manifest, or it is damaged.
    """
    manifest = read_manifest(folder)
    sizes = [entry["bytes"] for _, entry in shard_files(manifest)]
    damage = find_damage(folder, manifest, threads=threads, progress=lambda count: progress(count, sum(sizes)))
    pairs = sum(entry["sentences"] for split in manifest["splits"].values() for entry in split.values())
    return CorpusCheck(folder, len(sizes), sum(sizes), pairs, tuple(damage))
