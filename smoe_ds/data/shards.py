"""The shard format: token ids of sentence pairs in flat files, with offset tables and checksums.

A shard of a pair has three files per language:

- ``NNNNN.xxx.bin``: the ids of all sentences one after the other, little-endian uint16, or uint32 for vocabularies
  above 65,536;
- ``NNNNN.xxx.idx``: where each sentence begins, in ids from the beginning of the file, and where the last one ends:
  little-endian uint64, one more than sentences;
- ``NNNNN.xxx.crc``: CRC-32 (that of zip and PNG) of each block of 4,096 bytes of the ``.bin`` file, then of each block
  of 512 bytes of the ``.idx`` file, the last block of either being what is left: little-endian uint32. Offsets have
  smaller blocks because look-ups in them are scattered: a window of the training stream reads one here and there.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from smoe_ds.data.blocks import BlockSums
from smoe_ds.data.ragged import Ragged

OFFSET_DTYPE = np.dtype("<u8")
TOKEN_BLOCK = 4096
OFFSET_BLOCK = 512


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


class _BlockFile(HashedFile):
    """A hashed file with a checksum per block."""

    def __init__(self, path: Path, block: int) -> None:
        super().__init__(path)
        self._blocks = BlockSums(block)

    def write(self, data: bytes) -> None:
        super().write(data)
        self._blocks.update(data)

    def sums(self) -> bytes:
        return self._blocks.sums().tobytes()


class _SideWriter:
    """One language of one shard."""

    def __init__(self, folder: Path, name: str, language: str, dtype: np.dtype) -> None:
        self._tokens = _BlockFile(folder / f"{name}.{language}.bin", TOKEN_BLOCK)
        self._offsets = _BlockFile(folder / f"{name}.{language}.idx", OFFSET_BLOCK)
        self._sums = HashedFile(folder / f"{name}.{language}.crc")
        self._dtype = dtype
        self.num_tokens = 0
        self._offsets.write(np.zeros(1, OFFSET_DTYPE).tobytes())

    def add(self, sentences: Ragged) -> None:
        ends = self.num_tokens + np.cumsum(sentences.lengths)
        self._tokens.write(sentences.values.astype(self._dtype, copy=False).tobytes())
        self._offsets.write(ends.astype(OFFSET_DTYPE).tobytes())
        self.num_tokens = int(ends[-1])

    def close(self) -> dict[str, Any]:
        self._sums.write(self._tokens.sums() + self._offsets.sums())
        files = {"bin": self._tokens, "idx": self._offsets, "crc": self._sums}
        return {"tokens": self.num_tokens, **{kind: file.close() for kind, file in files.items()}}


class ShardWriter:
    """Writes the shards of one pair in one split; every file is on the disk when `close` returns."""

    def __init__(
        self, folder: Path, languages: tuple[str, str], vocab_size: int, sentences_per_shard: int, *, first: int = 0
    ) -> None:
        """Opens a writer.

        Args:
            folder: folder of the pair, made when the first sentence arrives.
            languages: the pair's two languages.
            vocab_size: size of the vocabulary the ids belong to.
            sentences_per_shard: sentence pairs after which a new shard begins.
            first: number of the first shard.
        """
        self._folder, self._languages = folder, languages
        self._dtype = token_dtype(vocab_size)
        self._limit = sentences_per_shard
        self._first = first
        self._sides: tuple[_SideWriter, _SideWriter] | None = None
        self._in_shard = 0
        self._shards: list[dict[str, Any]] = []

    def add(self, src: Sequence[Sequence[int]] | Ragged, tgt: Sequence[Sequence[int]] | Ragged) -> None:
        """Appends sentence pairs; ``src[i]`` and ``tgt[i]`` belong together."""
        if len(src) != len(tgt):
            raise ValueError(f"{len(src)} source and {len(tgt)} target sentences do not make pairs")
        first, second = (rows if isinstance(rows, Ragged) else Ragged.of(rows) for rows in (src, tgt))
        start = 0
        while start < len(src):
            sides = self._sides or self._open_shard()
            stop = min(len(src), start + self._limit - self._in_shard)
            for side, rows in zip(sides, (first, second), strict=True):
                side.add(rows.split(np.array([start, stop]))[0])
            self._in_shard += stop - start
            start = stop
            if self._in_shard == self._limit:
                self._close_shard()

    def _open_shard(self) -> tuple[_SideWriter, _SideWriter]:
        self._folder.mkdir(parents=True, exist_ok=True)
        name = self._name()
        first, second = (_SideWriter(self._folder, name, language, self._dtype) for language in self._languages)
        self._sides = (first, second)
        return self._sides

    def _name(self) -> str:
        return f"{self._first + len(self._shards):05d}"

    def _close_shard(self) -> None:
        if self._sides is None:
            return
        sides = {language: side.close() for language, side in zip(self._languages, self._sides, strict=True)}
        self._shards.append({"name": self._name(), "sentences": self._in_shard, "sides": sides})
        self._sides, self._in_shard = None, 0

    def close(self) -> dict[str, Any]:
        """Ends the last shard; returns the pair's entry for the manifest: sentences, tokens per language, shards."""
        self._close_shard()
        return {
            "sentences": sum(shard["sentences"] for shard in self._shards),
            "tokens": {name: sum(s["sides"][name]["tokens"] for s in self._shards) for name in self._languages},
            "shards": self._shards,
        }
