"""Translate held-out text and score it, beside what any model must beat: the copied source and no training."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from smoe_ds.checkpoints.commit import write_text_durably
from smoe_ds.decode.translation import Translation
from smoe_ds.decode.translator import Translator
from smoe_ds.evaluate.direction_scores import DirectionScores
from smoe_ds.evaluate.held_out import HeldOut
from smoe_ds.evaluate.metrics import Confidence, Metrics, Score
from smoe_ds.evaluate.scores import Sample
from smoe_ds.evaluate.significance import Paired, paired_tests

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
        text: digest of sources and references.
        confidence: of the score; None where it was not asked for.
        spbleu: spBLEU beside BLEU; None where it was not measured.
        paired: the run that this one was tested against; None without one.
    """

    direction: str
    score: Score
    copied: Score
    untrained: Score | None
    translations: Sequence[Translation] = field(repr=False)
    seconds: float
    tokenizer: str
    signatures: dict[str, str]
    text: str = ""
    confidence: Confidence | None = None
    spbleu: float | None = None
    paired: Paired | None = None

    def count(self, status: str) -> int:
        """Translations of a status."""
        return sum(translation.status == status for translation in self.translations)

    def scores(self, split: str, folder: str, level: str | None = None, comet: float | None = None) -> DirectionScores:
        """What ``scores.json`` keeps of it.

        Args:
            split: that was translated.
            folder: name of the folder beside ``scores.json`` that the translations are in.
            level: resource level of the direction.
            comet: COMET.
        """
        return DirectionScores(
            direction=self.direction,
            sentences=len(self.translations),
            score=self.score,
            copied=self.copied,
            untrained=self.untrained,
            empty=self.count("empty"),
            truncated=self.count("truncated"),
            seconds=round(self.seconds, 3),
            translations=f"{folder}/{translations_name(split, self.direction)}",
            tokenizer=self.tokenizer,
            level=level,
            text=self.text,
            confidence=self.confidence,
            spbleu=self.spbleu,
            comet=comet,
            paired=self.paired,
            translations_sha256=hashlib.sha256(self.file_text.encode()).hexdigest(),
        )

    @property
    def file_text(self) -> str:
        """The translations, one a line."""
        return "".join(f"{translation.text}\n" for translation in self.translations)


@dataclass(frozen=True)
class Translated:
    """The translations of one direction.

    Attributes:
        translations: one per source.
        untrained: those of the model before training; None where it was not asked for.
        seconds: time the model took, the untrained one not counted [s].
    """

    translations: Sequence[Translation] = field(repr=False)
    untrained: Sequence[str] | None = field(repr=False)
    seconds: float


@dataclass(frozen=True)
class Scoring:
    """How translations are scored.

    Attributes:
        metrics: BLEU and chrF++, perhaps spBLEU.
        resamples: corpora that the bootstrap draws for the confidence of a score, and in a paired test; 0: none.
        trials: exchanges of sentences that approximate randomisation tries.
        others: translations of the run to test against; None without one.
    """

    metrics: Metrics
    resamples: int = 0
    trials: int = 0
    others: Sequence[str] | None = field(default=None, repr=False)


def evaluate_direction(
    text: HeldOut, translator: Translator, untrained: Translator | None, metrics: Metrics, progress: Progress
) -> DirectionResult:
    """Translate and score one direction."""
    return score_direction(text, translate_direction(text, translator, untrained, progress), Scoring(metrics))


def translate_direction(
    text: HeldOut, translator: Translator, untrained: Translator | None, progress: Progress
) -> Translated:
    """Translate one direction, also with the model before training if that is given."""
    languages = text.target_language, text.source_language
    begin = time.monotonic()
    translations = []
    for first in range(0, len(text.sources), CHUNK):
        translations += translator.translate(text.sources[first : first + CHUNK], *languages)
        progress(len(translations), len(translations) / (time.monotonic() - begin))
    seconds = time.monotonic() - begin
    before = None
    if untrained:
        before = [translation.text for translation in untrained.translate(text.sources, *languages)]
    return Translated(translations, before, seconds)


def score_direction(text: HeldOut, translated: Translated, scoring: Scoring) -> DirectionResult:
    """Score the translations of one direction."""
    metrics, references = scoring.metrics, text.references
    hypotheses = [translation.text for translation in translated.translations]
    confidence = metrics.confidence(hypotheses, references, scoring.resamples) if scoring.resamples else None
    paired = None
    if scoring.others is not None:
        paired = paired_tests(metrics, hypotheses, scoring.others, references, scoring.resamples, scoring.trials)
    return DirectionResult(
        direction=text.direction,
        score=metrics.score(hypotheses, references),
        copied=metrics.score(text.sources, references),
        untrained=metrics.score(translated.untrained, references) if translated.untrained else None,
        translations=translated.translations,
        seconds=translated.seconds,
        tokenizer=metrics.tokenizer,
        signatures=metrics.signatures,
        text=text.digest,
        confidence=confidence,
        spbleu=metrics.spbleu(hypotheses, references),
        paired=paired,
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
    path = folder / translations_name(split, result.direction)
    write_text_durably(path, result.file_text)
    return path


def translations_name(split: str, direction: str) -> str:
    """Name of the file with the translations of a direction."""
    return f"{split}.{direction}.txt"
