"""What a model does with a text: tables for files, with all numbers, and a page with those to look at first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from smoe_ds.analysis.expert_shares import ALL
from smoe_ds.analysis.language_tree import Divergences, Node
from smoe_ds.analysis.requested_capacity import MEAN
from smoe_ds.analysis.routing_analysis import RoutingAnalysis
from smoe_ds.analysis.routing_use import SIDES
from smoe_ds.report.pages import Block, Lines, Page
from smoe_ds.report.tables import Cell, Column, Table

_BLOCK = (Column("side", "side", "left"), Column("block", "block", "left"))
_RC = Column("RC", "requested_capacity", format=".3f")
_LOSS = Column("loss", "nll", format=".3f")
_LOSS_NOTE = "loss: negative log-likelihood per predicted token (nat)"
DENSE = "a dense model: it has no experts, and so no requested capacity; its losses are shown"
CHANCE_COLUMNS = (
    Column("side", "side", "left"),
    Column("RC by", "by", "left"),
    Column("effect", "effect", format="+.3f"),
    Column("p", "p", format=".3f"),
    Column("sentences", "sentences", format=",.0f"),
)
CHANCE_NOTES = (
    "effect: highest minus lowest language; what a piece of ten times the frequency rank has more in the same",
    "sentence; what a token has more ten tokens later. p: how often permuted sentences show as much",
)


TABLES = ("directions", "losses", "capacity", "pieces", "strata", "experts", "divergence", "chance")
"""The tables of an analysis; a dense model has the first two."""


def routing_tables(analysis: RoutingAnalysis) -> dict[str, Table]:
    """Every number of an analysis, by the name of a table; their columns are explained in ANALYSIS.md. Of a dense model
    only what was read, and losses."""
    tables = {"directions": directions_table(analysis), "losses": _losses_table(analysis)}
    return tables if analysis.is_dense else tables | _tables_of_blocks(analysis)


def _tables_of_blocks(analysis: RoutingAnalysis) -> dict[str, Table]:
    return {
        "capacity": _capacity_table(analysis),
        "pieces": _pieces_table(analysis),
        "strata": strata_table(analysis, [one.direction for one in analysis.texts]),
        "experts": _experts_table(analysis),
        "divergence": _divergence_table(analysis.divergences),
        "chance": chance_table(analysis),
    }


def routing_page(analysis: RoutingAnalysis) -> Page:
    """What ``smoe-ds analyze`` prints."""
    if analysis.is_dense:
        return Page(tuple(_dense_page(analysis)))
    blocks: list[Block] = [_direction_capacities(analysis)]
    blocks += [_grouped(analysis, *of) for of in (("language", "language"), ("kind", "piece"), ("frequency", "rank"))]
    blocks += [_positions(analysis), _block_capacities(analysis), chance_table(analysis), strata_table(analysis, [])]
    blocks += [Lines((f"{one.side}: divergence of languages (bit)", *_tree(one.tree))) for one in analysis.divergences]
    return Page(tuple(blocks))


def _dense_page(analysis: RoutingAnalysis) -> Iterator[Block]:
    """What there is to say without experts."""
    yield Lines((DENSE,))
    columns = (Column("direction", "direction", "left"), Column("training pairs", "train", format=",", missing=""))
    losses = analysis.loss("direction")
    rows = [(one.direction, one.train_sentences, losses[one.direction]) for one in analysis.texts]
    yield Table((*columns, _LOSS), (*rows, (), ("all", None, analysis.loss("all")["all"])), (_LOSS_NOTE,))
    for by, header in (("kind", "piece"), ("frequency", "rank")):
        rows_of = [(one.group, one.tokens, one.nll) for one in analysis.losses if one.by == by]
        yield Table((Column(header, by, "left"), Column("tokens", "tokens", format=","), _LOSS), tuple(rows_of))
    found = [(int(one.group), one.tokens, one.nll) for one in analysis.losses if one.by == "position"]
    yield Table((Column("position", "position"), _LOSS), tuple(by_doubled_positions(found).items()))


def _losses_table(analysis: RoutingAnalysis) -> Table:
    columns = [Column("by", "by", "left"), Column("group", "group", "left"), Column("tokens", "tokens"), _LOSS]
    return _rows(columns, analysis.losses)


def directions_table(analysis: RoutingAnalysis) -> Table:
    """What was read."""
    columns = (
        Column("direction", "direction", "left"),
        Column("training pairs", "train_sentences", format=","),
        Column("pairs", "sentences", format=","),
        Column("too long", "too_long", format=","),
        Column("source tokens", "src_tokens", format=","),
        Column("target tokens", "tgt_tokens", format=","),
    )
    return _rows(columns, analysis.texts)


def _rows(columns: Sequence[Column], entries: Sequence[object], notes: tuple[str, ...] = ()) -> Table:
    """A row for each object, its attributes by the keys of the columns."""
    cells = tuple(tuple(getattr(one, column.key) for column in columns) for one in entries)
    return Table(tuple(columns), cells, notes)


def _capacity_table(analysis: RoutingAnalysis) -> Table:
    columns = [*_BLOCK, Column("by", "by", "left"), Column("group", "group", "left"), Column("tokens", "tokens"), _RC]
    return _rows(columns, analysis.capacities)


def _pieces_table(analysis: RoutingAnalysis) -> Table:
    names = ("direction", "end", "place", "piece", "rank", "tokens")
    return _rows([*_BLOCK, *(Column(name, name) for name in names), _RC], analysis.extremes)


def _experts_table(analysis: RoutingAnalysis) -> Table:
    names = ("language", "expert", "stratum", "first_choices", "choices", "share")
    rows = [
        (of.side, of.block, of.language, e, int(of.stratum_E[e]), int(of.first_E[e]), int(of.all_E[e]), share)
        for of in analysis.shares
        for e, share in enumerate(of.share_E.tolist())
    ]
    return Table((*_BLOCK, *(Column(name, name) for name in names)), tuple(rows))


def _divergence_table(found: Sequence[Divergences]) -> Table:
    names = ("language", "other", "divergence")
    rows = [
        (of.side, block, one, other, float(values_NN[i, j]))
        for of in found
        for block, values_NN in of.by_block.items()
        for i, one in enumerate(of.languages)
        for j, other in enumerate(of.languages)
        if i < j
    ]
    return Table((*_BLOCK, *(Column(name, name) for name in names)), tuple(rows))


def chance_table(analysis: RoutingAnalysis) -> Table:
    """Whether requested capacity goes with language, frequency and position."""
    return _rows(CHANCE_COLUMNS, analysis.tests, CHANCE_NOTES)


def strata_table(analysis: RoutingAnalysis, directions: Sequence[str]) -> Table:
    """Loads of strata, of all directions together and of those named."""
    columns = [
        *_BLOCK,
        Column("stratum", "stratum"),
        *([Column("direction", "direction", "left")] if directions else []),
        Column("tokens", "tokens", format=","),
        Column("share", "share_of_tokens", format=".1%"),
        Column("experts/token", "choices", format=".2f"),
        Column("load", "load", format=".2f"),
        Column("dropped", "dropped", format=".1%"),
        Column("dead", "dead"),
        Column("entropy (nat)", "entropy", format=".3f"),
        Column("same stratum", "same_stratum", format=".1%"),
    ]
    notes = (
        "load: busiest expert over the mean; dropped: what the run's capacity_factor would drop in training;",
        "dead: experts never chosen; same stratum: first and second choice in one stratum",
    )
    return _rows(columns, [one for one in analysis.loads if one.direction in (ALL, *directions)], notes)


def _sides(analysis: RoutingAnalysis) -> list[str]:
    return [side for side in SIDES if any(one.side == side for one in analysis.capacities)]


def _capacity_columns(sides: Sequence[str]) -> list[Column]:
    return [Column(f"RC {side}", side, format=".3f", missing="") for side in sides]


def _direction_capacities(analysis: RoutingAnalysis) -> Table:
    sides = _sides(analysis)
    by_side = [analysis.capacity(side, "direction", MEAN) for side in sides]
    total = [analysis.capacity(side, "all", MEAN)["all"] for side in sides]
    losses = analysis.loss("direction")
    columns = [Column("direction", "direction", "left"), Column("training pairs", "train", format=",", missing="")]
    rows: list[tuple[Cell, ...]] = [
        (one.direction, one.train_sentences, *(of[one.direction] for of in by_side), losses[one.direction])
        for one in analysis.texts
    ]
    note = "RC: requested capacity, the strata that a token passes; mean over the blocks of a side"
    last = ("all", None, *total, analysis.loss("all")["all"])
    return Table((*columns, *_capacity_columns(sides), _LOSS), (*rows, (), last), (note, _LOSS_NOTE))


def _grouped(analysis: RoutingAnalysis, by: str, header: str) -> Table:
    """Requested capacity of groups, a column for each side."""
    sides = _sides(analysis)
    by_side = [analysis.capacity(side, by, MEAN) for side in sides]
    groups = list(dict.fromkeys(group for of in by_side for group in of))
    rows = tuple((group, *(of.get(group) for of in by_side)) for group in groups)
    return Table((Column(header, by, "left"), *_capacity_columns(sides)), rows)


def _positions(analysis: RoutingAnalysis) -> Table:
    """Positions 1, 2, 3-4, 5-8 and so on."""
    sides = _sides(analysis)
    by_side = [
        by_doubled_positions(
            (int(one.group), one.tokens, one.requested_capacity)
            for one in analysis.capacities
            if (one.side, one.by, one.block) == (side, "position", MEAN)
        )
        for side in sides
    ]
    groups = sorted({name for of in by_side for name in of}, key=lambda name: int(name.split("-")[0]))
    rows = tuple((name, *(of.get(name) for of in by_side)) for name in groups)
    return Table((Column("position", "position"), *_capacity_columns(sides)), rows)


def by_doubled_positions(values: Iterable[tuple[int, float, float]]) -> dict[str, float]:
    """Means at positions 1, 2, 3-4, 5-8 and so on, of positions, their tokens and their means."""
    sums: dict[str, tuple[float, float]] = {}
    for position, tokens, mean in values:
        last = 1 << (position - 1).bit_length()
        name = str(last) if last < 3 else f"{last // 2 + 1}-{last}"
        before, total = sums.get(name, (0.0, 0.0))
        sums[name] = (before + tokens, total + tokens * mean)
    return {name: total / tokens for name, (tokens, total) in sums.items()}


def _block_capacities(analysis: RoutingAnalysis) -> Table:
    rows = [one for one in analysis.capacities if one.by == "all" and one.block != MEAN]
    return _rows([*_BLOCK, _RC], rows)


def _tree(node: Node, depth: int = 1) -> list[str]:
    """Lines of a tree, its branches indented below its height."""
    if not node.branches:
        return ["  " * depth + node.name]
    return ["  " * depth + f"{node.height:.4f}", *(line for one in node.branches for line in _tree(one, depth + 1))]
