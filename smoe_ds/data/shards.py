"""The shard format: token ids of sentence pairs in flat files with offset tables, and a manifest that vouches for them.

A shard of a pair has, per language, ``NNNNN.xxx.bin`` (the ids of all sentences one after the other, little-endian
uint16, or uint32 for vocabularies above 65,536) and ``NNNNN.xxx.idx`` (little-endian uint64 offsets, in tokens, one
more than sentences).
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from smoe_ds.errors import DataError

FORMAT = "smoe-corpus"
VERSION = 1
MANIFEST = "manifest.json"
SPLITS = ("train", "valid", "test")
OFFSET_DTYPE = np.dtype("<u8")
_MAPPED_FILES = 384  # a mapping holds a file descriptor, and the usual limit is 1,024 in a process


def token_dtype(vocab_size: int) -> np.dtype:
    """Type of a token id on disk."""
    return np.dtype("<u2" if vocab_size <= 65536 else "<u4")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class HashedFile:
    """A file being written, whose size and SHA-256 are known when it is closed; it is on the disk by then."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: BinaryIO = path.open("xb")
        self._digest = hashlib.sha256()
        self._bytes = 0

    def write(self, data: bytes) -> None:
        """Appends."""
        self._file.write(data)
        self._digest.update(data)
        self._bytes += len(data)

    def close(self) -> dict[str, Any]:
        """Flushes the file to the disk; returns its entry for the manifest: name, bytes, sha256."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return {"file": self.path.name, "bytes": self._bytes, "sha256": self._digest.hexdigest()}


class _SideWriter:
    """One language of one shard."""

    def __init__(self, folder: Path, name: str, language: str, dtype: np.dtype) -> None:
        self._tokens = HashedFile(folder / f"{name}.{language}.bin")
        self._offsets = HashedFile(folder / f"{name}.{language}.idx")
        self._dtype = dtype
        self.num_tokens = 0
        self._offsets.write(np.zeros(1, OFFSET_DTYPE).tobytes())

    def add(self, sentences: Sequence[Sequence[int]]) -> None:
        lengths = np.fromiter(map(len, sentences), np.int64, len(sentences))
        ends = self.num_tokens + np.cumsum(lengths)
        self._tokens.write(np.fromiter(chain.from_iterable(sentences), self._dtype, int(lengths.sum())).tobytes())
        self._offsets.write(ends.astype(OFFSET_DTYPE).tobytes())
        self.num_tokens = int(ends[-1])

    def close(self) -> dict[str, Any]:
        return {"tokens": self.num_tokens, "bin": self._tokens.close(), "idx": self._offsets.close()}


class ShardWriter:
    """Writes the shards of one pair in one split; every file is on the disk when `close` returns."""

    def __init__(self, folder: Path, languages: tuple[str, str], vocab_size: int, sentences_per_shard: int) -> None:
        """Opens a writer.

        Args:
            folder: folder of the pair, made when the first sentence arrives.
            languages: the pair's two languages.
            vocab_size: size of the vocabulary the ids belong to.
            sentences_per_shard: sentence pairs after which a new shard begins.
        """
        self._folder, self._languages = folder, languages
        self._dtype = token_dtype(vocab_size)
        self._limit = sentences_per_shard
        self._sides: tuple[_SideWriter, _SideWriter] | None = None
        self._in_shard = 0
        self._shards: list[dict[str, Any]] = []

    def add(self, src: Sequence[Sequence[int]], tgt: Sequence[Sequence[int]]) -> None:
        """Appends sentence pairs; ``src[i]`` and ``tgt[i]`` belong together."""
        if len(src) != len(tgt):
            raise ValueError(f"{len(src)} source and {len(tgt)} target sentences do not make pairs")
        start = 0
        while start < len(src):
            sides = self._sides or self._open_shard()
            stop = min(len(src), start + self._limit - self._in_shard)
            sides[0].add(src[start:stop])
            sides[1].add(tgt[start:stop])
            self._in_shard += stop - start
            start = stop
            if self._in_shard == self._limit:
                self._close_shard()

    def _open_shard(self) -> tuple[_SideWriter, _SideWriter]:
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"{len(self._shards):05d}"
        first, second = (_SideWriter(self._folder, name, language, self._dtype) for language in self._languages)
        self._sides = (first, second)
        return self._sides

    def _close_shard(self) -> None:
        if self._sides is None:
            return
        sides = {language: side.close() for language, side in zip(self._languages, self._sides, strict=True)}
        self._shards.append({"name": f"{len(self._shards):05d}", "sentences": self._in_shard, "sides": sides})
        self._sides, self._in_shard = None, 0

    def close(self) -> dict[str, Any]:
        """Ends the last shard; returns the pair's entry for the manifest: sentences, tokens per language, shards."""
        self._close_shard()
        return {
            "sentences": sum(shard["sentences"] for shard in self._shards),
            "tokens": {name: sum(s["sides"][name]["tokens"] for s in self._shards) for name in self._languages},
            "shards": self._shards,
        }


@lru_cache(maxsize=_MAPPED_FILES)
def map_array(path: str, dtype: np.dtype) -> np.ndarray:
    """A file as a read-only, memory-mapped array of ``dtype``; mappings are shared and the oldest ones dropped."""
    with Path(path).open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return np.empty(0, dtype)
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), dtype)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a prepared corpus.

    Raises:
        DataError: there is none, it is damaged, or another program or version wrote it.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path}: missing; {folder} is no corpus written by `python -m data_prep SPEC.yaml`") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); prepare the corpus again") from error
    found = (manifest.get("format"), manifest.get("version")) if isinstance(manifest, dict) else (None, None)
    if found != (FORMAT, VERSION):
        raise DataError(
            f"{path}: format {found[0]!r} version {found[1]!r}, expected {FORMAT!r} version {VERSION}; "
            "prepare the corpus again with this version's data_prep"
        )
    return manifest


def shard_files(manifest: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every file the manifest vouches for, as (path relative to the corpus, entry with bytes and sha256)."""
    yield manifest["tokenizer"]["file"], manifest["tokenizer"]
    for split, pairs in manifest["splits"].items():
        for pair, entry in pairs.items():
            for shard in entry["shards"]:
                for side in shard["sides"].values():
                    for part in (side["bin"], side["idx"]):
                        yield f"{split}/{pair}/{part['file']}", part
            for text in entry.get("text", {}).values():
                yield f"text/{text['file']}", text


def check_sizes(folder: Path, manifest: dict[str, Any]) -> None:
    """Compares existence, size and counts of every file with the manifest; reads a few bytes a file.

    Raises:
        DataError: names the file, what it should hold and where it ends.
    """
    for name, entry in shard_files(manifest):
        path = folder / name
        try:
            size = path.stat().st_size
        except OSError as error:
            raise DataError(
                f"{path}: {error.strerror}, but {MANIFEST} lists it; restore it or prepare again"
            ) from error
        if size != entry["bytes"]:
            what = "truncated" if size < entry["bytes"] else "longer than written"
            raise DataError(
                f"{path}: {what}: expected {entry['bytes']} bytes, found {size}{_place(path, size)}; "
                "restore the file or prepare the corpus again with --overwrite"
            )
    for split, pairs in manifest["splits"].items():
        for pair, entry in pairs.items():
            _check_counts(folder / split / pair, entry, token_dtype(manifest["tokenizer"]["vocab_size"]))


def _place(path: Path, size: int) -> str:
    """Where in a truncated token file the bytes end, if its offset table can tell."""
    index = path.with_suffix(".idx")
    if path.suffix != ".bin" or not index.exists() or index.stat().st_size % OFFSET_DTYPE.itemsize:
        return ""
    offsets = np.fromfile(index, OFFSET_DTYPE)
    if len(offsets) < 2 or not offsets[-1]:
        return ""
    itemsize = 2 if size <= 2 * int(offsets[-1]) else 4
    sentence = int(np.searchsorted(offsets, size // itemsize, side="right")) - 1
    return f" (ends at byte offset {size}, in sentence {sentence} of {len(offsets) - 1})"


def _check_counts(folder: Path, entry: dict[str, Any], dtype: np.dtype) -> None:
    for shard in entry["shards"]:
        for side in shard["sides"].values():
            path = folder / side["idx"]["file"]
            expected = (shard["sentences"] + 1) * OFFSET_DTYPE.itemsize
            if side["idx"]["bytes"] != expected or side["bin"]["bytes"] != side["tokens"] * dtype.itemsize:
                raise DataError(
                    f"{path}: {MANIFEST} contradicts itself on sentences and bytes; prepare the corpus again"
                )
            with path.open("rb") as file:
                first = int(np.frombuffer(file.read(OFFSET_DTYPE.itemsize), OFFSET_DTYPE)[0])
                file.seek(-OFFSET_DTYPE.itemsize, os.SEEK_END)
                last = int(np.frombuffer(file.read(), OFFSET_DTYPE)[0])
            if (first, last) != (0, side["tokens"]):
                raise DataError(
                    f"{path}: offsets run from {first} to {last}, expected 0 to {side['tokens']} tokens; "
                    "restore the file or prepare the corpus again with --overwrite"
                )


def check_hashes(folder: Path, manifest: dict[str, Any]) -> None:
    """Compares the SHA-256 of every file with the manifest; reads the whole corpus once.

    Raises:
        DataError: names the first file that differs.
    """
    for name, entry in shard_files(manifest):
        found = sha256_of(folder / name)
        if found == entry["sha256"]:
            continue
        if entry is manifest["tokenizer"]:
            raise DataError(
                f"{folder / name}: is not the tokenizer the shards were written with: SHA-256 is {found}, {MANIFEST} "
                f"says {entry['sha256']}; restore it or prepare the corpus again with --overwrite"
            )
        raise DataError(
            f"{folder / name}: content changed: SHA-256 is {found}, {MANIFEST} says {entry['sha256']}; "
            "restore the file or prepare the corpus again with --overwrite"
        )
