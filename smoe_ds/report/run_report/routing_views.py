"""What a report shows of the routing of a run: bars, coloured tables, loads, and sentences that say what they mean."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from smoe_ds.analysis.expert_shares import ALL
from smoe_ds.analysis.pieces import KINDS
from smoe_ds.analysis.requested_capacity import MEAN
from smoe_ds.report.routing import CHANCE_COLUMNS, CHANCE_NOTES, by_doubled_positions
from smoe_ds.report.run_report.charts import bar_chart
from smoe_ds.report.run_report.contents import RoutingNumbers
from smoe_ds.report.run_report.html_table import HeatTable, heat_table
from smoe_ds.report.tables import Column, Table

_TITLES = {
    "language": "language",
    "direction": "direction, most training text first",
    "kind": "kind of piece",
    "frequency": "frequency rank",
    "position": "position in the sentence",
    "block": "block",
}
_KINDS = KINDS[:4]
"""Pieces of text, which are worth a sentence; the others are rare or stand at the ends of sentences."""


@dataclass(frozen=True)
class RoutingViews:
    """The views of one run.

    Attributes:
        findings: sentences.
        bars: charts with their titles.
        blocks: requested capacity by language and block, a table per side.
        experts: shares of experts by language, a table per block.
        divergence: of languages, a table per side.
        trees: of languages, nested, by side.
        loads: of strata.
        chance: whether requested capacity differs by chance only.
        placement: shares of the ranks that the experts of a block are spread over; None if one rank has them all.
    """

    findings: list[str]
    bars: list[tuple[str, Markup]]
    blocks: list[HeatTable]
    experts: list[HeatTable]
    divergence: list[HeatTable]
    trees: dict[str, Any]
    loads: Table
    chance: Table
    placement: HeatTable | None


def common_ends(several: Sequence[RoutingNumbers]) -> dict[str, float]:
    """Highest requested capacity in the charts of several runs, by what they show, so that these have one scale."""
    return {
        by: max((value for one in several for of in _series(one, by).values() for value in of.values()), default=1.0)
        for by in _TITLES
    }


def _series(numbers: RoutingNumbers, by: str) -> dict[str, dict[str, float]]:
    """Requested capacity by group, by side."""
    if by == "position":
        return {side: _positions(numbers, side) for side in numbers.sides}
    if by == "block":
        return {side: {name: numbers.total(side, name) for name in numbers.blocks(side)} for side in numbers.sides}
    return {side: numbers.capacity(side, by) for side in numbers.sides}


def _positions(numbers: RoutingNumbers, side: str) -> dict[str, float]:
    """Requested capacity at positions 1, 2, 3-4, 5-8 and so on."""
    return by_doubled_positions(
        (int(row["group"]), row["tokens"], row["requested_capacity"])
        for row in numbers.tables["capacity"]
        if (row["side"], row["by"], row["block"]) == (side, "position", MEAN)
    )


def routing_views(numbers: RoutingNumbers, ends: Mapping[str, float], ep_size: int = 1) -> RoutingViews:
    """All views of an analysis.

    Args:
        numbers: what was found.
        ends: see `common_ends`.
        ep_size: ranks that the experts of a block are spread over in training.
    """
    return RoutingViews(
        findings=list(findings(numbers)),
        bars=list(_bars(numbers, ends)),
        blocks=[_by_block(numbers, side) for side in numbers.sides],
        experts=list(_experts(numbers)),
        divergence=[table for side in numbers.sides if (table := _divergence(numbers, side)).columns],
        trees={side: tree for side, tree in numbers.trees.items() if "branches" in tree},
        loads=_loads(numbers),
        chance=_chance_table(numbers),
        placement=_placement(numbers, ep_size) if ep_size > 1 else None,
    )


def loss_charts(numbers: RoutingNumbers, several: Sequence[RoutingNumbers]) -> list[tuple[str, Markup]]:
    """Losses by group as bars with their titles.

    Args:
        numbers: what was found.
        several: what is shown beside it, itself included, so that all have one scale.
    """
    found = []
    for by in ("direction", "language", "kind", "frequency", "position"):
        losses, title = _losses(numbers, by), "target language" if by == "language" else _TITLES[by]
        highest = max((value for one in several for value in _losses(one, by).values()), default=1.0)
        chart = bar_chart(list(losses), {"loss": losses}, f"Loss by {title}", start=0.0, end=highest)
        if chart is not None:
            found.append((f"by {title}", chart))
    return found


def _losses(numbers: RoutingNumbers, by: str) -> dict[str, float]:
    if by != "position":
        return numbers.losses(by)
    rows = (row for row in numbers.tables["losses"] if row["by"] == by)
    return by_doubled_positions((int(row["group"]), row["tokens"], row["nll"]) for row in rows)


def findings(numbers: RoutingNumbers) -> Iterator[str]:
    """What takes more capacity and where, in words."""
    for side in numbers.sides:
        reads = "source" if side == "encoder" else "target"
        strata = 1 + max(int(row["stratum"]) for row in numbers.tables["strata"] if row["side"] == side)
        yield f"In the {side}, a token passes {numbers.total(side):.2f} of {strata} strata on average."
        languages = numbers.capacity(side, "language")
        if len(languages) > 1:
            high, low = _ends(languages)
            yield (
                f"By {reads} language, {high} takes the most ({languages[high]:.2f}) "
                f"and {low} the least ({languages[low]:.2f}){_chance(numbers, side, 'language')}."
            )
        yield from _where(numbers, side)
        kinds = {name: rc for name, rc in numbers.capacity(side, "kind").items() if name in _KINDS}
        if len(kinds) > 1:
            high, low = _ends(kinds)
            yield (
                f"Of the kinds of pieces, {high} takes the most ({kinds[high]:.2f}) "
                f"and {low} the least ({kinds[low]:.2f})."
            )
        bands = list(numbers.capacity(side, "frequency").items())
        if len(bands) > 1:
            (first, frequent), (last, rare) = bands[0], bands[-1]
            yield (
                f"Frequent pieces (ranks {first}) take {frequent:.2f}, rare ones (ranks {last}) {rare:.2f}"
                f"{_chance(numbers, side, 'frequency')}."
            )
    dead = [row for row in numbers.tables["strata"] if row["direction"] == ALL and row["dead"]]
    for row in dead:
        where = f"{row['block']}, stratum {row['stratum']:.0f}"
        yield f"In {where}, no token of this text chose {row['dead']:.0f} of the experts."


def _chance(numbers: RoutingNumbers, side: str, by: str) -> str:
    """How often permuted sentences show as much, in words; empty where that was not tested."""
    p = next((row["p"] for row in numbers.tables["chance"] if (row["side"], row["by"]) == (side, by)), None)
    if p is None:
        return ""
    return f"; permuted sentences show as much in {p:.1%} of draws" + (", so it may be chance" if p > 0.05 else "")


def _where(numbers: RoutingNumbers, side: str) -> Iterator[str]:
    """The block that takes the most, and the one in which languages differ the most."""
    blocks = {block: numbers.total(side, block) for block in numbers.blocks(side)}
    if len(blocks) > 1:
        high, low = _ends(blocks)
        yield f"Its block {high} takes the most ({blocks[high]:.2f}), {low} the least ({blocks[low]:.2f})."
    by_block = {block: numbers.capacity(side, "language", block) for block in blocks}
    spread = {block: max(of.values()) - min(of.values()) for block, of in by_block.items() if len(of) > 1}
    if spread and len(blocks) > 1:
        block = max(spread, key=lambda name: spread[name])
        high, low = _ends(by_block[block])
        yield (
            f"Languages differ the most in {block}: {high} {by_block[block][high]:.2f}, "
            f"{low} {by_block[block][low]:.2f}."
        )


def _ends(values: dict[str, float]) -> tuple[str, str]:
    """The keys of the highest and of the lowest value."""
    return max(values, key=lambda key: values[key]), min(values, key=lambda key: values[key])


def _bars(numbers: RoutingNumbers, ends: Mapping[str, float]) -> Iterator[tuple[str, Markup]]:
    for by, title in _TITLES.items():
        series = _series(numbers, by)
        groups = list(dict.fromkeys(group for of in series.values() for group in of))
        if by == "position":
            groups.sort(key=lambda name: int(name.split("-")[0]))
        chart = bar_chart(groups, series, f"Requested capacity by {title}", start=1.0, end=ends[by])
        if chart is not None:
            yield f"by {title}", chart


def _by_block(numbers: RoutingNumbers, side: str) -> HeatTable:
    blocks = numbers.blocks(side)
    blocks = [*blocks, MEAN] if len(blocks) > 1 else blocks
    by_block = [numbers.capacity(side, "language", block) for block in blocks]
    values = {language: [of[language] for of in by_block] for language in by_block[-1]}
    return heat_table(f"Requested capacity in the {side}", "language", blocks, values, ".2f")


def _experts(numbers: RoutingNumbers) -> Iterator[HeatTable]:
    for side in numbers.sides:
        for block in numbers.blocks(side):
            rows = [row for row in numbers.tables["experts"] if row["block"] == block]
            experts = {int(row["expert"]): int(row["stratum"]) for row in rows}
            shares: dict[str, dict[int, float | None]] = {}
            for row in rows:
                share = row["share"]
                shares.setdefault(row["language"], {})[int(row["expert"])] = None if share is None else 100 * share
            values = {language: [of[expert] for expert in experts] for language, of in shares.items()}
            groups = [(f"stratum {stratum}", number) for stratum, number in sorted(Counter(experts.values()).items())]
            title = f"{block}: share of each expert (%)"
            yield heat_table(title, "language", [str(expert) for expert in experts], values, ".1f", groups)


def _placement(numbers: RoutingNumbers, ep_size: int) -> HeatTable:
    """Rows that go to each rank of an expert-parallel group, in per cent."""
    values: dict[str, list[float | None]] = {}
    for row in numbers.tables["experts"]:
        if row["language"] == ALL:
            shares = values.setdefault(row["block"], [0.0] * ep_size)
            rank = int(row["expert"]) % ep_size
            shares[rank] = (shares[rank] or 0.0) + 100 * (row["share"] or 0.0)
    columns = [f"rank {rank}" for rank in range(ep_size)]
    return heat_table("Rows per rank of an expert-parallel group (%)", "block", columns, values, ".1f")


def _divergence(numbers: RoutingNumbers, side: str) -> HeatTable:
    rows = [row for row in numbers.tables["divergence"] if (row["side"], row["block"]) == (side, MEAN)]
    names = list(dict.fromkeys(name for row in rows for name in (row["language"], row["other"])))
    found = {frozenset((row["language"], row["other"])): row["divergence"] for row in rows}
    values = {one: [found.get(frozenset((one, other))) for other in names] for one in names}
    return heat_table(f"Divergence of languages in the {side} (bit)", "language", names, values, ".3f")


def _loads(numbers: RoutingNumbers) -> Table:
    columns = (
        Column("block", "block", "left"),
        Column("stratum", "stratum", format=".0f"),
        Column("tokens", "tokens", format=",.0f"),
        Column("share", "share_of_tokens", format=".1%"),
        Column("experts/token", "choices", format=".2f"),
        Column("load", "load", format=".2f"),
        Column("dropped", "dropped", format=".1%"),
        Column("dead", "dead", format=".0f"),
        Column("entropy (nat)", "entropy", format=".3f"),
        Column("same stratum", "same_stratum", format=".1%"),
    )
    rows = [row for row in numbers.tables["strata"] if row["direction"] == ALL]
    notes = (
        "share: of the block's tokens; load: busiest expert over the mean, 1 is perfect; dropped: what the run's "
        "capacity_factor would drop in training; dead: experts that no token chose; same stratum: tokens whose first "
        "and second choice lie in one stratum",
    )
    return Table(columns, tuple(tuple(row[column.key] for column in columns) for row in rows), notes)


def _chance_table(numbers: RoutingNumbers) -> Table:
    rows = tuple(tuple(row[column.key] for column in CHANCE_COLUMNS) for row in numbers.tables["chance"])
    return Table(CHANCE_COLUMNS, rows, (" ".join(CHANCE_NOTES),))
