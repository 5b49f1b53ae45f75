"""A prepared corpus on disk: its pairs, its directions and their sentences."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from smoe_ds.config.nearest import nearest
from smoe_ds.data.manifest import MANIFEST, files_digest, read_manifest
from smoe_ds.data.parallel_sentences import ParallelSentences, Side
from smoe_ds.data.shard_reader import ShardSide
from smoe_ds.data.shards import sha256_of, token_dtype
from smoe_ds.data.splits import SPLITS
from smoe_ds.data.tokenizer import Tokenizer
from smoe_ds.data.verify import check_sizes, find_damage
from smoe_ds.errors import DataError


class Corpus:
    """A folder written by ``python -m data_prep SPEC.yaml``."""

    def __init__(self, path: Path, *, verify: bool = True) -> None:
        """Opens and checks a corpus.

        Manifest, sizes and counts are checked here; what is read of a file is checked when it is first read.

        Args:
            path: the folder.
            verify: check all of every file now, which reads the corpus once.

        Raises:
            DataError: a file is missing, truncated or changed; the message names it and what differs.
        """
        self.path = Path(path)
        self.manifest = read_manifest(self.path)
        if verify and (damage := find_damage(self.path, self.manifest)):
            raise DataError("\n".join([*damage, f"{self.path}: restore the files or prepare the corpus again"]))
        check_sizes(self.path, self.manifest)
        self.pairs: tuple[str, ...] = tuple(self.manifest["pairs"])
        self.languages: tuple[str, ...] = tuple(self.manifest["languages"])
        both = [(pair, "-".join(reversed(pair.split("-")))) for pair in self.pairs]
        self._pair_of = {direction: pair for pair, back in both for direction in (pair, back)}
        self.directions: tuple[str, ...] = tuple(sorted(self._pair_of))
        self._opened: dict[tuple[str, str], dict[str, Side]] = {}

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
                f"{tokenizer.sha256}, {MANIFEST} says {entry['sha256']}; restore it or prepare the corpus again"
            )
        return tokenizer

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of what it holds, see `smoe_ds.data.manifest.files_digest`."""
        return files_digest(self.manifest)

    def directions_of(self, split: str) -> tuple[str, ...]:
        """The directions that have sentence pairs in a split, sorted; those that are only scored have none in train."""
        entries = self.manifest["splits"][split]
        return tuple(direction for direction in self.directions if entries[self._pair_of[direction]]["sentences"])

    def sentences(self, split: str, direction: str) -> ParallelSentences:
        """The sentence pairs of a direction.

        Args:
            split: ``train``, ``valid`` or ``test``.
            direction: ``SRC-TGT``, one of `directions`.

        Raises:
            DataError: there is no such split or direction.
        """
        return ParallelSentences(direction, self._sides(split, self.pair_of(split, direction)))

    def pair_of(self, split: str, direction: str) -> str:
        """The pair that a direction belongs to, one of `pairs`.

        Raises:
            DataError: there is no such split or direction.
        """
        if split not in SPLITS:
            raise DataError(f"{self.path}: no split {split!r}; there are {', '.join(SPLITS)}")
        if direction not in self._pair_of:
            near = nearest(direction, self.directions)
            hint = f"did you mean {near}? It has" if near else "it has"
            raise DataError(f"{self.path}: no direction {direction!r}; {hint} {', '.join(self.directions)}")
        return self._pair_of[direction]

    def _sides(self, split: str, pair: str) -> dict[str, Side]:
        """Both languages of a pair, opened once: its two directions share what was checked."""
        if (split, pair) not in self._opened:
            dtype = token_dtype(self.manifest["tokenizer"]["vocab_size"])
            shards = self.manifest["splits"][split][pair]["shards"]
            self._opened[split, pair] = {
                language: Side([ShardSide(self.path / split / pair, s["sides"][language], dtype) for s in shards])
                for language in pair.split("-")
            }
        return self._opened[split, pair]

    def text_files(self, split: str, direction: str) -> tuple[Path, Path]:
        """The cleaned text of a held-out split, source and target, one sentence a line, for scoring.

        Raises:
            DataError: there is no such split or direction, the split keeps no text (train), or a file is not the one
                that was written.
        """
        texts = self.manifest["splits"][split][self.pair_of(split, direction)].get("text")
        if texts is None:
            raise DataError(f"{self.path}: the text of split {split!r} is not kept; there is valid and test")
        src, tgt = (self._text_file(texts[language]) for language in direction.split("-"))
        return src, tgt

    def _text_file(self, entry: dict[str, Any]) -> Path:
        path = self.path / "text" / entry["file"]
        found = sha256_of(path)
        if found != entry["sha256"]:
            raise DataError(
                f"{path}: content changed: SHA-256 is {found}, {MANIFEST} says {entry['sha256']}; restore the file or "
                "prepare the corpus again with --overwrite"
            )
        return path
