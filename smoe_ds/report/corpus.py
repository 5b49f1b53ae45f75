"""A prepared corpus: whether it is whole, one of its sentence pairs, and what a run will see of it."""

from __future__ import annotations

from smoe_ds.data.check_corpus import CorpusCheck
from smoe_ds.data.corpus_stats import CorpusStats, DirectionStats
from smoe_ds.data.located_pair import LocatedPair, LocatedSentence
from smoe_ds.report.pages import Lines, Page
from smoe_ds.report.tables import RULE, Cell, Column, Table
from smoe_ds.text_line import spelled_out

_GOOD_PACKING = 0.95
"""Share of real tokens below which a larger window is advised."""


def check_text(check: CorpusCheck) -> str:
    """One line on a whole corpus, several on a damaged one."""
    if check.damage:
        number = f"{len(check.damage)} problem{'s' if len(check.damage) > 1 else ''}"
        return "\n".join(
            [
                *map(spelled_out, check.damage),
                f"{check.folder}: {number}; restore the files or prepare the corpus again",
            ]
        )
    return (
        f"{check.folder}: {check.files:,} files, {check.bytes:,} bytes, {check.pairs:,} sentence pairs: all as written"
    )


def pair_page(pair: LocatedPair) -> Page:
    """A sentence pair: text, pieces, ids, and where they are."""
    head = Lines((f"{pair.direction}: sentence {pair.number} of {pair.total:,} in {pair.split}",))
    return Page((head, *map(_sentence, pair.sides)))


def _sentence(side: LocatedSentence) -> Lines:
    last = side.start + len(side.ids) - 1
    return Lines(
        (
            f"{side.language}: {side.text}",
            f"  pieces: {' '.join(side.pieces)}",
            f"  ids:    {' '.join(map(str, side.ids))}",
            f"  from:   {side.file}, sentence {side.row}, ids {side.start} to {last}, byte offset {side.offset}",
        )
    )


def stats_page(stats: CorpusStats) -> Page:
    """Every direction, what a step holds, and advice where there is something to do."""
    advice = [line for line in (_padding(stats), _too_long(stats)) if line]
    if stats.packing < _GOOD_PACKING:
        return Page((stats_table(stats), Lines((_step(stats),)), Lines(tuple(advice))))
    return Page((stats_table(stats), Lines((_step(stats), *advice))))


def stats_table(stats: CorpusStats) -> Table:
    """Size, share and epochs by direction, and their sum."""
    columns = (
        Column("direction", "direction", "left"),
        Column("sentences", "sentences", format=","),
        Column("source tokens", "src_tokens", format=","),
        Column("target tokens", "tgt_tokens", format=","),
        Column("too long", "too_long", format=","),
        Column("share (%)", "share_percent", format=".3f"),
        Column("epochs/100k steps", "epochs", format=",.2f"),
    )
    sums = stats.totals
    last = (f"{sums.directions} directions", sums.sentences, sums.src_tokens, sums.tgt_tokens, sums.too_long)
    return Table(columns, (*map(_row, stats.directions), RULE, (*last, 100.0, None)))


def _row(one: DirectionStats) -> tuple[Cell, ...]:
    counts = (one.sentences, one.src_tokens, one.tgt_tokens, one.too_long)
    return (one.direction, *counts, 100 * one.share, one.epochs)


def _step(stats: CorpusStats) -> str:
    data = stats.settings.data
    return (
        f"T {data.temperature:g}, {stats.settings.micro_batches} micro-batches of at most {data.max_tokens:,} tokens a "
        f"step: about {stats.pairs_per_step:,.0f} sentence pairs and {stats.tokens_per_step:,.0f} tokens; "
        f"packing {100 * stats.packing:.1f} %"
    )


def _padding(stats: CorpusStats) -> str:
    if stats.packing >= _GOOD_PACKING:
        return ""
    return (
        f"hint: windows of {stats.window:,} pairs leave {100 * (1 - stats.packing):.1f} % padding; a larger "
        "smoe.data.window leaves less, but repeats the pairs of small directions within a micro-batch"
    )


def _too_long(stats: CorpusStats) -> str:
    """A warning, where sentence pairs are never read."""
    totals, settings = stats.totals, stats.settings
    if not totals.too_long:
        return ""
    whole = ", ".join(one.direction for one in stats.directions if one.too_long == one.sentences)
    return (
        f"warning: {totals.too_long:,} of {totals.sentences:,} sentence pairs are never read"
        f"{f', among them all of {whole}' if whole else ''}: with special tokens a side exceeds "
        f"max_positions {settings.max_positions:,}, or both exceed max_tokens {settings.data.max_tokens:,}"
    )
