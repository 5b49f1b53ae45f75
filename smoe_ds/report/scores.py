"""The scores of an evaluation: a row for each direction and each mean, signatures, and translations to look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from smoe_ds.evaluate.averages import Average, groups, mean
from smoe_ds.evaluate.direction_scores import DirectionScores
from smoe_ds.evaluate.scores import Evaluation, Sample
from smoe_ds.evaluate.significance import FEW
from smoe_ds.report.pages import Block, Heading, Lines, Page
from smoe_ds.report.tables import RULE, Cell, Column, Marked, Table

CUT = "cut: sources longer than smoe.model.max_positions; only their beginning was translated"
LEVEL = 0.05
"""p below which a difference is marked."""
PAIRED = f"p: two-sided, over the sentences of a direction; * below {LEVEL} in both tests"
SMALL = f"fewer than {FEW} sentences in a direction: do not rely on p"
_OPTIONAL = ("level", "bleu_confidence", "chrf_confidence", "spbleu", "comet")
"""Columns that are shown only if they have something."""
MIXED = "* a mean over different tokenizers: compare it only with the same mean of the same directions"


def scores_page(evaluation: Evaluation) -> Page:
    """What ``smoe-ds evaluate`` prints."""
    signatures = Lines(tuple(f"{name}: {signature}" for name, signature in evaluation.signatures.items()))
    samples = [_sample(number, sample) for number, sample in enumerate(evaluation.samples, start=1)]
    return Page((scores_table(evaluation), *paired_blocks(evaluation), signatures, *samples))


def scores_table(evaluation: Evaluation) -> Table:
    """Scores by direction, and means below."""
    bleu, means = evaluation.bleu_name, evaluation.averages
    columns = (
        Column("direction", "direction", "left"),
        Column("level", "level", "left", missing=""),
        Column("sentences", "sentences", missing=""),
        Column("cut", "truncated", missing=""),
        Column("tokenizer", "tokenizer", "left"),
        Column(bleu, "bleu", format=".2f"),
        Column("+-", "bleu_confidence", format=".2f", missing=""),
        Column("chrF++", "chrf", format=".2f"),
        Column("+-", "chrf_confidence", format=".2f", missing=""),
        Column("spBLEU", "spbleu", format=".2f"),
        Column("COMET", "comet", format=".4f"),
        Column(f"{bleu} copied source", "copied_bleu", format=".2f"),
        Column(f"{bleu} untrained", "untrained_bleu", format=".2f"),
    )
    directions, below = list(map(_direction, evaluation.directions)), list(map(_average, means))
    shown = [number for number, column in enumerate(columns) if _is_shown(column, number, directions)]
    rows = [*directions, *([RULE] if means else []), *below]
    cells = tuple(tuple(row[number] for number in shown) if row else RULE for row in rows)
    return Table(tuple(columns[number] for number in shown), cells, tuple(_notes(evaluation, means)))


def _is_shown(column: Column, number: int, rows: Sequence[tuple[Cell, ...]]) -> bool:
    return column.key not in _OPTIONAL or any(row[number] is not None for row in rows)


def paired_blocks(evaluation: Evaluation) -> Iterator[Block]:
    """The differences from the run that an evaluation was tested against; nothing without one."""
    other = evaluation.against
    if other is not None:
        yield Heading(f"against {other['run']}, {other['folder']}")
        yield paired_table(evaluation)


def paired_table(evaluation: Evaluation) -> Table:
    """Scores beside those of the other run by direction, with tests, and means below."""
    columns = [Column("direction", "direction", "left")]
    for name, key in ((evaluation.bleu_name, "bleu"), ("chrF++", "chrf")):
        columns += [
            Column(name, key, format=".2f"),
            Column("other", f"other_{key}", format=".2f"),
            Column("difference", f"{key}_difference", format="+.2f"),
            Column("p bootstrap", f"{key}_bootstrap", format=".4f", missing=""),
            Column("p randomisation", f"{key}_randomization", format=".4f", missing=""),
        ]
    tested = [one for one in evaluation.directions if one.paired is not None]
    found = groups([one.direction for one in tested], [one.level for one in tested])
    means = [_paired_mean(name, [tested[place] for place in places]) for name, places in found.items()]
    rows = (*map(_paired, tested), *([RULE] if means else []), *means)
    notes = [PAIRED] + ([SMALL] if any(one.sentences < FEW for one in tested) else [])
    return Table(tuple(columns), rows, tuple(notes))


def cut_notes(evaluation: Evaluation, max_positions: int) -> Iterator[str]:
    """Which directions have sources that are too long for the model.

    Args:
        evaluation: all scores.
        max_positions: tokens that the model takes.
    """
    for one in evaluation.directions:
        if one.truncated:
            yield (
                f"{one.direction}: {one.truncated} of {one.sentences} sources are longer than the {max_positions} "
                "tokens that the model takes (smoe.model.max_positions); only their beginning is translated"
            )


def _notes(evaluation: Evaluation, means: list[Average]) -> Iterator[str]:
    if any(one.truncated for one in evaluation.directions):
        yield CUT
    if drawn := max((one.confidence.resamples for one in evaluation.directions if one.confidence), default=0):
        yield f"+-: half of the 95 % interval, by bootstrap over the sentences ({drawn:,} resamples)"
    if any(len(mean.tokenizers) > 1 for mean in means):
        yield MIXED


def _direction(one: DirectionScores) -> tuple[Cell, ...]:
    untrained = one.untrained.bleu if one.untrained else None
    bleu, chrf = (one.confidence.bleu, one.confidence.chrf) if one.confidence else (None, None)
    about = (one.direction, one.level, one.sentences, one.truncated, one.tokenizer)
    return (*about, one.score.bleu, bleu, one.score.chrf, chrf, one.spbleu, one.comet, one.copied.bleu, untrained)


def _average(of: Average) -> tuple[Cell, ...]:
    sign = "*" if len(of.tokenizers) > 1 else ""
    about = (f"mean of {of.directions} {of.name}", None, None, None, "mixed" if sign else of.tokenizers[0])
    untrained = None if of.untrained_bleu is None else Marked(of.untrained_bleu, sign)
    scores = (Marked(of.bleu, sign), None, of.chrf, None, of.spbleu, of.comet)
    return (*about, *scores, Marked(of.copied_bleu, sign), untrained)


def _paired(one: DirectionScores) -> tuple[Cell, ...]:
    other = one.paired
    assert other is not None
    bleu = _tested(one.score.bleu, other.bleu, other.bleu_bootstrap, other.bleu_randomization)
    return (one.direction, *bleu, *_tested(one.score.chrf, other.chrf, other.chrf_bootstrap, other.chrf_randomization))


def _tested(own: float, other: float, *p: float) -> tuple[Cell, ...]:
    return own, other, Marked(own - other, "*" if max(p) < LEVEL else ""), *p


def _paired_mean(name: str, group: Sequence[DirectionScores]) -> tuple[Cell, ...]:
    cells: list[Cell] = [f"mean of {len(group)} {name}"]
    for key in ("bleu", "chrf"):
        own = mean([getattr(one.score, key) for one in group])
        other = mean([getattr(one.paired, key) for one in group])
        cells += [own, other, own - other, None, None]
    return tuple(cells)


def _sample(number: int, sample: Sample) -> Lines:
    parts = {"source": sample.source, "translation": sample.translation, "reference": sample.reference}
    return Lines((f"sample {number}, {sample.direction}", *(f"  {name:<11} {text}" for name, text in parts.items())))
