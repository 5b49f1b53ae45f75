"""Translate held-out text and score it, beside what any model must beat: the copied source and no training."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from smoe_ds.data.corpus import Corpus
from smoe_ds.decode.lines import read_lines
from smoe_ds.decode.translator import Translation, Translator
from smoe_ds.errors import DataError
from smoe_ds.evaluate.metrics import Metrics, Score

CHUNK = 1000
Progress = Callable[[int, float], None]
"""Called with the sentences done and sentences per second."""


@dataclass(frozen=True)
class HeldOut:
    """Held-out text of one direction, as lines."""

    direction: str
    sources: Sequence[str]
    references: Sequence[str]

    @property
    def target_language(self) -> str:
        return self.direction.split("-")[1]


@dataclass(frozen=True)
class DirectionResult:
    """What a model made of one direction.

    Attributes:
        direction: e.g. ``eng-nso``.
        score: of the model.
        copied: of the source in place of a translation.
        untrained: of the model before training; None where it was not asked for.
        translations: one per source.
        seconds: time the model took, the untrained one not counted [s].
    """

    direction: str
    score: Score
    copied: Score
    untrained: Score | None
    translations: Sequence[Translation] = field(repr=False)
    seconds: float

    def count(self, status: str) -> int:
        """Translations of a status."""
        return sum(translation.status == status for translation in self.translations)


@dataclass(frozen=True)
class Average:
    """Mean of a group of directions, every direction counting the same."""

    name: str
    directions: int
    bleu: float
    chrf: float
    copied_bleu: float
    untrained_bleu: float | None


def read_held_out(corpus: Corpus, split: str, direction: str, limit: int | None) -> HeldOut:
    """The first ``limit`` sentences of a direction.

    Raises:
        DataError: there is no such split or direction, the two sides have different lengths, or there is no sentence.
    """
    files = corpus.text_files(split, direction)
    sources, references = (read_lines(file, limit) for file in files)
    if len(sources) != len(references):
        raise DataError(f"{files[0]}: {len(sources)} lines, but {files[1]} has {len(references)}; prepare it again")
    if not sources:
        raise DataError(f"{files[0]}: no sentence to evaluate on; choose another split or leave out {direction}")
    return HeldOut(direction, sources, references)


def evaluate_direction(
    text: HeldOut, translator: Translator, untrained: Translator | None, metrics: Metrics, progress: Progress
) -> DirectionResult:
    """Translate and score one direction."""
    begin = time.monotonic()
    translations = []
    for first in range(0, len(text.sources), CHUNK):
        translations += translator.translate(text.sources[first : first + CHUNK], text.target_language)
        progress(len(translations), len(translations) / (time.monotonic() - begin))
    seconds = time.monotonic() - begin
    before = untrained.translate(text.sources, text.target_language) if untrained else None
    return DirectionResult(
        direction=text.direction,
        score=metrics.score([t.text for t in translations], text.references),
        copied=metrics.score(text.sources, text.references),
        untrained=metrics.score([t.text for t in before], text.references) if before else None,
        translations=translations,
        seconds=seconds,
    )


def pivot_of(directions: Sequence[str]) -> str | None:
    """The one language that all directions share; None where there is none, or where there are two (a single pair)."""
    shared = set.intersection(*(set(direction.split("-")) for direction in directions))
    return shared.pop() if len(shared) == 1 else None


def averages(results: Sequence[DirectionResult]) -> list[Average]:
    """Means over the directions from the pivot, to the pivot, and all; groups of one direction are left out."""
    pivot = pivot_of([result.direction for result in results])
    groups = {"all": list(results)}
    if pivot is not None:
        sides = {f"{pivot}-xxx": 0, f"xxx-{pivot}": 1}
        of = {name: [r for r in results if r.direction.split("-")[side] == pivot] for name, side in sides.items()}
        groups = {**of, **groups}
    return [_average(name, group) for name, group in groups.items() if len(group) > 1]


def _average(name: str, group: Sequence[DirectionResult]) -> Average:
    untrained = [result.untrained.bleu for result in group if result.untrained is not None]
    return Average(
        name=name,
        directions=len(group),
        bleu=_mean([result.score.bleu for result in group]),
        chrf=_mean([result.score.chrf for result in group]),
        copied_bleu=_mean([result.copied.bleu for result in group]),
        untrained_bleu=_mean(untrained) if untrained else None,
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def sample_places(sizes: Sequence[int], num: int) -> Iterator[tuple[int, int]]:
    """Where to take samples: over the directions in turn, within each spread evenly; no place twice.

    Args:
        sizes: sentences of each direction, none 0.
        num: samples wanted; fewer come when there are fewer sentences.

    Yields:
        Number of the direction and of the sentence.
    """
    share = [0] * len(sizes)
    while sum(share) < min(num, sum(sizes)):
        for i, size in enumerate(sizes):
            if sum(share) < num and share[i] < size:
                share[i] += 1
    for turn in range(max(share, default=0)):
        for i, size in enumerate(sizes):
            if turn < share[i]:
                yield i, (2 * turn + 1) * size // (2 * share[i])


def write_translations(folder: Path, split: str, result: DirectionResult) -> Path:
    """Write ``SPLIT.DIRECTION.txt`` into a folder, one translation a line; returns its path."""
    path = folder / f"{split}.{result.direction}.txt"
    path.write_bytes("".join(f"{translation.text}\n" for translation in result.translations).encode())
    return path
