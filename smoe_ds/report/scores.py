"""The scores of an evaluation: a row for each direction and each mean, signatures, and translations to look at."""

from __future__ import annotations

from collections.abc import Iterator

from smoe_ds.evaluate.scores import Average, DirectionScores, Evaluation, Sample
from smoe_ds.report.pages import Lines, Page
from smoe_ds.report.tables import RULE, Cell, Column, Marked, Table

CUT = "cut: sources longer than smoe.model.max_positions; only their beginning was translated"
MIXED = "* a mean over different tokenizers: compare it only with the same mean of the same directions"


def scores_page(evaluation: Evaluation) -> Page:
    """What ``smoe-ds evaluate`` prints."""
    signatures = Lines(tuple(f"{name}: {signature}" for name, signature in evaluation.signatures.items()))
    samples = [_sample(number, sample) for number, sample in enumerate(evaluation.samples, start=1)]
    return Page((scores_table(evaluation), signatures, *samples))


def scores_table(evaluation: Evaluation) -> Table:
    """Scores by direction, and means below."""
    bleu, means = evaluation.bleu_name, evaluation.averages
    columns = (
        Column("direction", "direction", "left"),
        Column("sentences", "sentences", missing=""),
        Column("cut", "truncated", missing=""),
        Column("tokenizer", "tokenizer", "left"),
        Column(bleu, "bleu", format=".2f"),
        Column("chrF++", "chrf", format=".2f"),
        Column(f"{bleu} copied source", "copied_bleu", format=".2f"),
        Column(f"{bleu} untrained", "untrained_bleu", format=".2f"),
    )
    rows = (*map(_direction, evaluation.directions), *([RULE] if means else []), *map(_average, means))
    return Table(columns, rows, tuple(_notes(evaluation, means)))


def _notes(evaluation: Evaluation, means: list[Average]) -> Iterator[str]:
    if any(one.truncated for one in evaluation.directions):
        yield CUT
    if any(len(mean.tokenizers) > 1 for mean in means):
        yield MIXED


def _direction(one: DirectionScores) -> tuple[Cell, ...]:
    untrained = one.untrained.bleu if one.untrained else None
    about = (one.direction, one.sentences, one.truncated, one.tokenizer)
    return (*about, one.score.bleu, one.score.chrf, one.copied.bleu, untrained)


def _average(mean: Average) -> tuple[Cell, ...]:
    sign = "*" if len(mean.tokenizers) > 1 else ""
    about = (f"mean of {mean.directions} {mean.name}", None, None, "mixed" if sign else mean.tokenizers[0])
    untrained = None if mean.untrained_bleu is None else Marked(mean.untrained_bleu, sign)
    return (*about, Marked(mean.bleu, sign), mean.chrf, Marked(mean.copied_bleu, sign), untrained)


def _sample(number: int, sample: Sample) -> Lines:
    parts = {"source": sample.source, "translation": sample.translation, "reference": sample.reference}
    return Lines((f"sample {number}, {sample.direction}", *(f"  {name:<11} {text}" for name, text in parts.items())))
