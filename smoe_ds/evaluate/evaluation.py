"""Translate held-out text and score it, beside what any model must beat: the copied source and no training."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from smoe_ds.decode.translator import Translation, Translator
from smoe_ds.evaluate.held_out import HeldOut
from smoe_ds.evaluate.metrics import Metrics, Score
from smoe_ds.evaluate.scores import DirectionScores, Sample
from smoe_ds.run_names import TRANSLATIONS

CHUNK = 1000
Progress = Callable[[int, float], None]
"""Called with the sentences done and sentences per second."""


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
        tokenizer: BLEU's.
        signatures: sacreBLEU's signature of each metric, BLEU's first.
    """

    direction: str
    score: Score
    copied: Score
    untrained: Score | None
    translations: Sequence[Translation] = field(repr=False)
    seconds: float
    tokenizer: str
    signatures: dict[str, str]

    def count(self, status: str) -> int:
        """Translations of a status."""
        return sum(translation.status == status for translation in self.translations)

    def scores(self, split: str) -> DirectionScores:
        """What ``scores.json`` keeps of it."""
        return DirectionScores(
            direction=self.direction,
            sentences=len(self.translations),
            score=self.score,
            copied=self.copied,
            untrained=self.untrained,
            empty=self.count("empty"),
            truncated=self.count("truncated"),
            seconds=round(self.seconds, 3),
            translations=f"{TRANSLATIONS}/{_file_name(split, self.direction)}",
            tokenizer=self.tokenizer,
        )


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
        tokenizer=metrics.tokenizer,
        signatures=metrics.signatures,
    )


def signatures_of(results: Sequence[DirectionResult]) -> dict[str, str]:
    """The signature of every metric; with several tokenizers ``BLEU (zh)`` and so on, as the directions come."""
    mixed = len({result.tokenizer for result in results}) > 1
    bleu: dict[str, str] = {}
    for result in results:
        (name, signature), *others = result.signatures.items()
        bleu[f"{name} ({result.tokenizer})" if mixed else name] = signature
    return bleu | dict(others)


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


def take_samples(texts: Sequence[HeldOut], results: Sequence[DirectionResult], num: int) -> tuple[Sample, ...]:
    """Translations to look at, see `sample_places`; ``results`` are those of ``texts``."""
    return tuple(
        Sample(
            direction=texts[i].direction,
            source=texts[i].sources[line],
            translation=results[i].translations[line].text,
            reference=texts[i].references[line],
        )
        for i, line in sample_places([len(text.sources) for text in texts], num)
    )


def write_translations(folder: Path, split: str, result: DirectionResult) -> Path:
    """Write ``SPLIT.DIRECTION.txt`` into a folder, one translation a line; returns its path."""
    path = folder / _file_name(split, result.direction)
    path.write_bytes("".join(f"{translation.text}\n" for translation in result.translations).encode())
    return path


def _file_name(split: str, direction: str) -> str:
    return f"{split}.{direction}.txt"
