"""One sentence pair of a corpus, with the place of either side on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from smoe_ds.data.corpus import Corpus
from smoe_ds.data.parallel_sentences import Side
from smoe_ds.errors import DataError


@dataclass(frozen=True)
class LocatedSentence:
    """One side.

    Attributes:
        language: its code.
        text: the sentence.
        pieces: as the vocabulary spells them.
        ids: number of each piece.
        file: file with the ids, relative to the corpus.
        row: number of the sentence in it, from 0.
        start: number of its first id in the file, from 0.
        offset: where that is in the file [bytes].
    """

    language: str
    text: str
    pieces: tuple[str, ...]
    ids: tuple[int, ...]
    file: Path
    row: int
    start: int
    offset: int


@dataclass(frozen=True)
class LocatedPair:
    """A sentence pair.

    Attributes:
        direction: e.g. ``eng-nso``.
        split: ``train``, ``valid`` or ``test``.
        number: of the pair in the split, from 0.
        total: pairs of the split.
        sides: source and target.
    """

    direction: str
    split: str
    number: int
    total: int
    sides: tuple[LocatedSentence, LocatedSentence]


def locate_pair(corpus: Corpus, split: str, direction: str, number: int) -> LocatedPair:
    """A sentence pair by its number.

    Raises:
        DataError: there is no such direction or sentence, or a file is damaged where it is read.
    """
    sentences = corpus.sentences(split, direction)
    if not 0 <= number < len(sentences):
        there = f"sentences 0 to {len(sentences) - 1}" if len(sentences) else "no sentence"
        raise DataError(f"--at {number}: {direction} has {there} in {split} of {corpus.path}")
    src = _located(corpus, sentences.src_language, sentences.src, number)
    tgt = _located(corpus, sentences.tgt_language, sentences.tgt, number)
    return LocatedPair(direction, split, number, len(sentences), (src, tgt))


def _located(corpus: Corpus, language: str, side: Side, number: int) -> LocatedSentence:
    shard, row = side.place(number)
    ids = shard.read(np.array([row])).values.tolist()
    spelling = corpus.tokenizer.vocabulary()
    start = int(shard.bounds(np.array([row]))[0][0])
    return LocatedSentence(
        language=language,
        text=corpus.tokenizer.decode(ids),
        pieces=tuple(spelling[index][0] for index in ids),
        ids=tuple(ids),
        file=shard.token_file.relative_to(corpus.path),
        row=row,
        start=start,
        offset=start * shard.id_bytes,
    )
