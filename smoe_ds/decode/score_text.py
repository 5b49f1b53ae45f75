"""Scores of translations that are given as text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from smoe_ds.decode.lines import read_lines
from smoe_ds.decode.translator import Translator
from smoe_ds.errors import DataError


@dataclass(frozen=True)
class TextPairs:
    """Sentence pairs of a direction.

    Attributes:
        source_language: e.g. ``eng``.
        target_language: e.g. ``nso``.
        sources: one sentence a line.
        targets: as many.
        source_file: where the sources are from, for messages.
        target_file: where the targets are from.
    """

    source_language: str
    target_language: str
    sources: Sequence[str]
    targets: Sequence[str]
    source_file: Path
    target_file: Path

    @property
    def direction(self) -> str:
        """E.g. ``eng-nso``."""
        return f"{self.source_language}-{self.target_language}"


@dataclass(frozen=True)
class PairScore:
    """What a model makes of a sentence pair.

    Attributes:
        log_prob: of the target with the end of sentence, given the source [nat].
        tokens: of the target, the end of sentence included; 0 where source and target are empty.
    """

    log_prob: float
    tokens: int

    @property
    def perplexity(self) -> float:
        """``exp(-log_prob / tokens)``, inf where that is too large for a number; 1 without tokens."""
        try:
            return math.exp(-self.log_prob / max(self.tokens, 1))
        except OverflowError:
            return math.inf


def read_pairs(direction: str, files: Sequence[Path]) -> TextPairs:
    """Reads a file of sources and one of targets, or one TSV file with both.

    Raises:
        DataError: the direction is none; a file is missing, empty or not UTF-8; the files have different numbers of
            lines; a line of the TSV file has not two columns; or there are more than two files.
    """
    languages = direction.split("-")
    if len(languages) != 2 or not all(languages):
        raise DataError(f"--pair {direction}: is no direction; write source and target language, for example eng-nso")
    if len(files) not in (1, 2):
        raise DataError(f"--pair {direction}: has {len(files)} files; name two text files, or one TSV file")
    texts = [read_lines(file) for file in files]
    for file, lines in zip(files, texts, strict=True):
        if not lines:
            raise DataError(f"{file}: is empty; give one sentence a line")
    sources, targets = texts if len(texts) == 2 else _columns(files[0], texts[0])
    if len(sources) != len(targets):
        raise DataError(
            f"{files[0]}: has {len(sources)} lines, but {files[1]} has {len(targets)}; give one target for each source"
        )
    return TextPairs(languages[0], languages[1], sources, targets, files[0], files[-1])


def _columns(file: Path, lines: Sequence[str]) -> tuple[list[str], list[str]]:
    rows = [line.split("\t") for line in lines]
    for number, row in enumerate(rows, start=1):
        if len(row) != 2:
            raise DataError(f"{file}: line {number} has {len(row)} columns; give source, tab and target")
    return [row[0] for row in rows], [row[1] for row in rows]


def score_pairs(translator: Translator, text: TextPairs, chunk: int) -> Iterator[PairScore]:
    """Scores every pair, in order.

    Args:
        translator: the model.
        text: what to score.
        chunk: pairs encoded and sorted into batches at a time.

    Raises:
        DataError: a line is longer than the model's positions. The lines before its chunk have been scored by then.
    """
    for start in range(0, len(text.sources), chunk):
        sources = text.sources[start : start + chunk]
        pieces, targets = translator.encoded(sources), translator.encoded(text.targets[start : start + chunk])
        _check_lengths(text.source_file, pieces, translator.max_source_pieces, start)
        _check_lengths(text.target_file, targets, translator.max_target_pieces, start)
        scores = translator.score(sources, targets, text.target_language, 0.0, text.source_language)
        for source, target, score in zip(pieces, targets, scores, strict=True):
            yield PairScore(score, len(target) + 1 if source or target else 0)


def _check_lengths(file: Path, rows: Sequence[Sequence[int]], longest: int, start: int) -> None:
    for number, row in enumerate(rows, start=start + 1):
        if len(row) > longest:
            raise DataError(
                f"{file}: line {number} has {len(row)} tokens, the model takes {longest}; shorten or split it"
            )
