"""The scores of an evaluation: a row for each direction and each mean, signatures, and translations to look at."""

from __future__ import annotations

from smoe_ds.evaluate.scores import Average, DirectionScores, Evaluation, Sample
from smoe_ds.report.pages import Lines, Page
from smoe_ds.report.tables import RULE, Cell, Column, Table


def scores_page(evaluation: Evaluation) -> Page:
    """What ``smoe-ds evaluate`` prints."""
    signatures = Lines(tuple(f"{name}: {signature}" for name, signature in evaluation.signatures.items()))
    samples = [_sample(number, sample) for number, sample in enumerate(evaluation.samples, start=1)]
    return Page((scores_table(evaluation), signatures, *samples))


def scores_table(evaluation: Evaluation) -> Table:
    """Scores by direction, and means below."""
    bleu = evaluation.bleu_name
    columns = (
        Column("direction", "direction", "left"),
        Column("sentences", "sentences", missing=""),
        Column(bleu, "bleu", format=".2f"),
        Column("chrF++", "chrf", format=".2f"),
        Column(f"{bleu} copied source", "copied_bleu", format=".2f"),
        Column(f"{bleu} untrained", "untrained_bleu", format=".2f"),
    )
    means = evaluation.averages
    return Table(columns, (*map(_direction, evaluation.directions), *([RULE] if means else []), *map(_average, means)))


def _direction(one: DirectionScores) -> tuple[Cell, ...]:
    untrained = one.untrained.bleu if one.untrained else None
    return (one.direction, one.sentences, one.score.bleu, one.score.chrf, one.copied.bleu, untrained)


def _average(mean: Average) -> tuple[Cell, ...]:
    name = f"mean of {mean.directions} {mean.name}"
    return (name, None, mean.bleu, mean.chrf, mean.copied_bleu, mean.untrained_bleu)


def _sample(number: int, sample: Sample) -> Lines:
    parts = {"source": sample.source, "translation": sample.translation, "reference": sample.reference}
    return Lines((f"sample {number}, {sample.direction}", *(f"  {name:<11} {text}" for name, text in parts.items())))
