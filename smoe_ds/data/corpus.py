"""A prepared corpus on disk: its pairs, its directions and their sentences, memory-mapped."""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from smoe_ds.data.shards import (
    OFFSET_DTYPE,
    SPLITS,
    check_hashes,
    check_sizes,
    map_array,
    read_manifest,
    shard_files,
    token_dtype,
)
from smoe_ds.data.tokenizer import Tokenizer
from smoe_ds.errors import DataError


class _Shard:
    """Paths of one shard, seen in one direction, and where it begins in the split."""

    def __init__(self, folder: Path, entry: dict[str, Any], languages: tuple[str, str], start: int) -> None:
        self.start = start
        self.stop = start + int(entry["sentences"])
        sides = [entry["sides"][language] for language in languages]
        self.tokens = [str(folder / side["bin"]["file"]) for side in sides]
        self.offsets = [str(folder / side["idx"]["file"]) for side in sides]


class Lengths:
    """Lengths in pieces of one side, looked up in the offset tables; ``np.asarray`` reads them all (int32 [N])."""

    def __init__(self, shards: list[_Shard], side: int) -> None:
        self._shards, self._side = shards, side
        self._starts = np.array([shard.start for shard in shards], np.int64)

    def __len__(self) -> int:
        return self._shards[-1].stop if self._shards else 0

    def __getitem__(self, index: NDArray[np.int64] | int | slice) -> NDArray[np.int32]:
        """Lengths of the given sentences, int32 of the index's shape.

        Raises:
            IndexError: a sentence is not in 0..N-1.
        """
        if isinstance(index, slice):
            index = np.arange(*index.indices(len(self)))
        rows = np.asarray(index, np.int64)
        if rows.size and (rows.min() < 0 or rows.max() >= len(self)):
            raise IndexError(f"sentences {rows.min()} to {rows.max()} of {len(self)}")
        lengths = np.empty(rows.shape, np.int32)
        shard_of = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(shard_of):
            here = shard_of == number
            offsets = map_array(self._shards[number].offsets[self._side], OFFSET_DTYPE)
            local = rows[here] - self._starts[number]
            lengths[here] = offsets[local + 1] - offsets[local]
        return lengths

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:].astype(dtype or np.int32, copy=False)


class ParallelSentences:
    """The sentence pairs of one direction in one split; they stay on disk until they are asked for."""

    def __init__(self, folder: Path, entry: dict[str, Any], direction: str, vocab_size: int) -> None:
        """Opens a direction.

        Args:
            folder: folder of the pair in its split.
            entry: the pair's entry in the manifest.
            direction: ``SRC-TGT``.
            vocab_size: size of the vocabulary, which decides the width of an id on disk.
        """
        self.direction = direction
        self.src_language, self.tgt_language = direction.split("-")
        self._dtype = token_dtype(vocab_size)
        self._shards: list[_Shard] = []
        for shard in entry["shards"]:
            start = self._shards[-1].stop if self._shards else 0
            self._shards.append(_Shard(folder, shard, (self.src_language, self.tgt_language), start))
        self._starts = [shard.start for shard in self._shards]

    def __len__(self) -> int:
        return self._shards[-1].stop if self._shards else 0

    @property
    def src_lengths(self) -> Lengths:
        """Pieces of every source sentence."""
        return Lengths(self._shards, 0)

    @property
    def tgt_lengths(self) -> Lengths:
        """Pieces of every target sentence."""
        return Lengths(self._shards, 1)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids of source and target, int64 [pieces] each.

        Raises:
            IndexError: the index is not in 0..N-1.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self.direction}: sentence {index} of {len(self)}")
        shard = self._shards[bisect_right(self._starts, index) - 1]
        row = int(index) - shard.start
        return self._side(shard, 0, row), self._side(shard, 1, row)

    def _side(self, shard: _Shard, side: int, row: int) -> np.ndarray:
        offsets = map_array(shard.offsets[side], OFFSET_DTYPE)
        tokens = map_array(shard.tokens[side], self._dtype)
        return tokens[int(offsets[row]) : int(offsets[row + 1])].astype(np.int64)


class Corpus:
    """A folder written by ``python -m data_prep SPEC.yaml``."""

    def __init__(self, path: Path, *, verify: bool = True) -> None:
        """Opens and checks a corpus.

        Args:
            path: the folder.
            verify: compare the SHA-256 of every file too, which reads the corpus once; sizes and counts always are.

        Raises:
            DataError: a file is missing, truncated or changed; the message names it and what differs.
        """
        self.path = Path(path)
        self.manifest = read_manifest(self.path)
        try:
            check_sizes(self.path, self.manifest)
            if verify:
                check_hashes(self.path, self.manifest)
            self.pairs: tuple[str, ...] = tuple(self.manifest["pairs"])
            self.languages: tuple[str, ...] = tuple(self.manifest["languages"])
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{self.path / 'manifest.json'}: lacks {error}; prepare the corpus again") from error
        both = [(pair, "-".join(reversed(pair.split("-")))) for pair in self.pairs]
        self._pair_of = {direction: pair for pair, back in both for direction in (pair, back)}
        self.directions: tuple[str, ...] = tuple(sorted(self._pair_of))

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer the shards were written with.

        Raises:
            DataError: the file beside the shards is another one.
        """
        entry = self.manifest["tokenizer"]
        tokenizer = Tokenizer(self.path / entry["file"])
        if tokenizer.sha256 != entry["sha256"]:
            raise DataError(
                f"{tokenizer.model_file}: is not the tokenizer the shards were written with: SHA-256 is "
                f"{tokenizer.sha256}, manifest.json says {entry['sha256']}; restore it or prepare the corpus again"
            )
        return tokenizer

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the names and hashes of all files: two corpora with the same one hold the same sentences."""
        files = sorted((name, entry["sha256"]) for name, entry in shard_files(self.manifest))
        return hashlib.sha256(json.dumps(files).encode()).hexdigest()

    def sentences(self, split: str, direction: str) -> ParallelSentences:
        """The sentence pairs of a direction.

        Args:
            split: ``train``, ``valid`` or ``test``.
            direction: ``SRC-TGT``, one of `directions`.

        Raises:
            DataError: there is no such split or direction.
        """
        if split not in SPLITS:
            raise DataError(f"{self.path}: no split {split!r}; there are {', '.join(SPLITS)}")
        if direction not in self._pair_of:
            known = ", ".join(self.directions)
            raise DataError(f"{self.path}: no direction {direction!r}; the corpus has: {known}")
        pair = self._pair_of[direction]
        vocab_size = self.manifest["tokenizer"]["vocab_size"]
        return ParallelSentences(self.path / split / pair, self.manifest["splits"][split][pair], direction, vocab_size)

    def text_files(self, split: str, direction: str) -> tuple[Path, Path]:
        """The cleaned text of a held-out split, source and target, one sentence a line, for scoring.

        Raises:
            DataError: there is no such split or direction, or the split keeps no text (train).
        """
        self.sentences(split, direction)
        pair = self._pair_of[direction]
        texts = self.manifest["splits"][split][pair].get("text")
        if texts is None:
            raise DataError(f"{self.path}: the text of split {split!r} is not kept; there is valid and test")
        src, tgt = direction.split("-")
        return self.path / "text" / texts[src]["file"], self.path / "text" / texts[tgt]["file"]
