"""Requested capacity over seeds as tables: do seeds agree, is it more than chance, and what each language takes."""

from __future__ import annotations

from collections.abc import Sequence

from smoe_ds.report.study.systems import p_text
from smoe_ds.report.tables import Cell, Column, Table
from smoe_ds.study.capacity import Agreement, Chance

_AGREEMENT = (
    "agreement: rank correlation of two seeds, mean over pairs: 1 if all seeds order languages (or bands of",
    "frequency) alike, 0 if they have nothing in common. p: how often random orders agree as much.",
)
_CHANCE = (
    "effect: highest minus lowest language; what a piece of ten times the frequency rank has more in the same",
    "sentence; what a token has more ten tokens later. In brackets p: how often permuted sentences show as much.",
)


def agreement_table(found: Sequence[Agreement]) -> Table | None:
    """Whether seeds agree on which groups of tokens take more; None where no system has several."""
    columns = (
        Column("system", "system", "left"),
        Column("RC by", "by", "left"),
        Column("side", "side", "left"),
        Column("seeds", "seeds"),
        Column("groups", "groups"),
        Column("agreement", "correlation", format="+.2f"),
        Column("p", "p", format=p_text),
    )
    rows = [
        (one.system, one.by, one.side, len(one.values), len(one.groups), one.correlation, one.p)
        for one in found
        if len(one.values) > 1
    ]
    return Table(columns, tuple(rows), _AGREEMENT) if rows else None


def chance_table(found: Sequence[Chance]) -> Table:
    """The effect of language, frequency and position in each seed, with its p."""
    seeds = sorted({seed for one in found for seed in one.effects})
    columns = (
        Column("system", "system", "left"),
        Column("side", "side", "left"),
        Column("RC by", "by", "left"),
        *(Column(f"seed {seed}", f"seed_{seed}") for seed in seeds),
        Column("one way", "one_way", "left", missing=""),
    )
    rows: list[tuple[Cell, ...]] = []
    for one in found:
        cells = [f"{one.effects[seed]:+.3f} ({one.p[seed]:.3f})" if seed in one.effects else None for seed in seeds]
        way = None if one.one_way is None or len(one.effects) < 2 else "yes" if one.one_way else "no"
        rows.append((one.system, one.side, one.by, *cells, way))
    return Table(columns, tuple(rows), _CHANCE)


def groups_table(one: Agreement) -> Table:
    """Requested capacity of each language or band of frequency, a column for each seed."""
    columns = (
        Column(one.by, "group", "left"),
        *(Column(f"seed {seed}", f"seed_{seed}", format=".3f") for seed in one.values),
    )
    cells = zip(one.groups, *one.values.values(), strict=True)
    return Table(columns, tuple(cells))
