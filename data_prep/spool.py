"""Cleaned text on its way: one file a language, with the hashes that duplicates and held-out sentences are found by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np

from data_prep.clean import Cleaner
from data_prep.normalise import digest, key
from data_prep.readers import read_source
from data_prep.scripts import script_number, unusual
from data_prep.spec import PairSpec, Source, Spec
from data_prep.swapped import count_swapped

SRC_KEY, TGT_KEY, PAIR = 0, 1, 2  # columns of the hashes


@dataclass(frozen=True)
class Spool:
    """The cleaned sentence pairs of one text of a pair (``train``, ``valid`` or ``test``), in a temporary folder."""

    folder: Path
    languages: tuple[str, str]
    split: str

    def _file(self, suffix: str) -> Path:
        return self.folder / f"{'-'.join(self.languages)}.{self.split}.{suffix}"

    def text_file(self, language: str) -> Path:
        """The text of a language, one sentence a line."""
        return self._file(f"{language}.txt")

    def hashes(self) -> np.ndarray:
        """Hashes of each pair, uint64 [N, 3]: key of the first side, key of the second, the exact pair."""
        return np.fromfile(self._file("hashes"), "<u8").reshape(-1, 3)

    def other_script(self) -> np.ndarray:
        """Whether a side is in another script than most of its language's sentences here, bool [N]."""
        return np.fromfile(self._file("other_script"), bool)

    def lines(self, side: int, mask: np.ndarray) -> Iterator[str]:
        """The sentences of one side for which ``mask`` (bool [N]) is true."""
        with self.text_file(self.languages[side]).open("rb") as file:
            for line in compress(file, mask.view(np.uint8).tobytes()):
                yield line[:-1].decode("utf-8")

    def write(self, pairs: Iterator[tuple[str, str]]) -> int:
        """Writes the text with its hashes and scripts; returns the number of pairs."""
        src_scripts, tgt_scripts = bytearray(), bytearray()
        with (
            self.text_file(self.languages[0]).open("wb") as src_file,
            self.text_file(self.languages[1]).open("wb") as tgt_file,
            self._file("hashes").open("wb") as hash_file,
        ):
            for src, tgt in pairs:
                src_file.write(src.encode("utf-8") + b"\n")
                tgt_file.write(tgt.encode("utf-8") + b"\n")
                hash_file.write(digest(key(src)) + digest(key(tgt)) + digest(f"{src}\t{tgt}"))
                src_scripts.append(min(script_number(src), 255))
                tgt_scripts.append(min(script_number(tgt), 255))
        other = unusual(np.frombuffer(src_scripts, np.uint8)) | unusual(np.frombuffer(tgt_scripts, np.uint8))
        other.tofile(self._file("other_script"))
        return len(src_scripts)


def spool_text(
    spec: Spec, pair: PairSpec, split: str, base: Path, folder: Path, tick: Callable[[int], None]
) -> tuple[Spool, dict[str, Any]]:
    """Reads and cleans one text of a pair.

    Args:
        spec: the specification.
        pair: the pair.
        split: ``train``, ``valid`` or ``test``, which the pair has sources for.
        base: folder that relative paths are relative to.
        folder: where to write.
        tick: called now and then with the number of pairs read.

    Returns:
        the spool, and the counts so far: ``read``; ``dropped`` and ``noticed`` by name; ``places`` of invalid lines,
        if any.

    Raises:
        DataError: a source cannot be read.
    """
    sources: list[Source] = getattr(pair, split)
    key_language = spec.key_language(pair)
    cleaner = Cleaner(spec.clean, pair.languages.index(key_language), held_out=split != "train")
    spool = Spool(folder, pair.languages, split)
    refuse = spec.clean.invalid_utf8 == "refuse"

    def cleaned() -> Iterator[tuple[str, str]]:
        for source in sources:
            for sides in read_source(source, pair, key_language, base, cleaner.notes, refuse_invalid=refuse):
                if cleaner.num_read % 10_000 == 0:
                    tick(cleaner.num_read)
                kept = cleaner(sides)
                if kept is not None:
                    yield kept

    spool.write(cleaned())
    noticed = cleaner.notes.counts
    noticed["other_script"] = int(spool.other_script().sum())
    noticed["swapped"] = count_swapped(spool.text_file(pair.languages[0]), spool.text_file(pair.languages[1]))
    counts = {"read": cleaner.num_read, "dropped": dict(+cleaner.dropped), "noticed": dict(+noticed)}
    return spool, counts | ({"places": cleaner.notes.places} if cleaner.notes.places else {})
