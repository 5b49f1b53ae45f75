"""Heat maps of routing: experts by language, loads of experts, and how far languages are apart.

Their colours grow lighter all the way, so that colour-blind readers and print in grey keep the order; where there is
room, the numbers stand in the cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from smoe_ds.analysis.expert_shares import ALL, LanguageShares
from smoe_ds.analysis.language_tree import Divergences, Node
from smoe_ds.analysis.requested_capacity import MEAN
from smoe_ds.analysis.routing_use import SIDES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Float64 = NDArray[np.float64]
COLOR_MAP = "cividis"
"""Source: Nunez, Anderton and Renslow, "Optimizing colormaps with consideration for color vision deficiency" (2018)."""
_NEVER = "×"
"""Stands in the cell of an expert that was never chosen, be it ever so small."""
_CELL = (0.36, 0.22)  # inches
_WIDEST, _HIGHEST = 14.0, 40.0  # inches of all cells together: larger maps have smaller cells
_VECTORS = 20_000  # cells; larger maps are pictures in an SVG, too


@dataclass(frozen=True)
class _Map:
    """One map.

    Attributes:
        title: above it.
        rows: names from top to bottom.
        columns: names from left to right.
        values: one per cell; NaN where there is none.
        rules: columns that a new group begins with.
        zero: what stands in a cell whose value is 0.
    """

    title: str
    rows: Sequence[str]
    columns: Sequence[str]
    values: Float64
    rules: Sequence[int] = ()
    zero: str = "0"


def draw_experts(shares: Sequence[LanguageShares]) -> Figure:
    """Share of the (token, expert) pairs of each language that fell on each expert, a map for each block.

    Args:
        shares: of an analysis, of at least one block.
    """
    by_side = [[one for one in shares if one.side == side] for side in SIDES]
    grid = [[_of_block(block) for block in _blocks(some)] for some in by_side if some]
    return _drawn(
        grid,
        "language",
        "expert (lines: strata)",
        "share of the (token, expert) pairs of a language (%)",
        ".0f",
        full=True,
    )


def _blocks(shares: Sequence[LanguageShares]) -> list[list[LanguageShares]]:
    return [[one for one in shares if one.block == name] for name in dict.fromkeys(one.block for one in shares)]


def _of_block(shares: Sequence[LanguageShares]) -> _Map:
    first = shares[0]
    columns = [str(expert) for expert in range(len(first.all_E))]
    values = np.array([100 * one.share_E for one in shares])
    return _Map(first.block, [one.language for one in shares], columns, values, _first_experts(first))


def _first_experts(of: LanguageShares) -> list[int]:
    """The experts that a stratum begins with, but the first."""
    return [expert for expert, (one, other) in enumerate(pairwise(of.stratum_E.tolist()), 1) if one != other]


def draw_load(shares: Sequence[LanguageShares]) -> Figure:
    """Rows of each expert over the mean of its block's, a map for each side.

    Args:
        shares: of an analysis, of at least one block.
    """
    total = [one for one in shares if one.language == ALL]
    grid = []
    for side in SIDES:
        some = [one for one in total if one.side == side]
        if some:
            most = max(len(one.all_E) for one in some)
            values = np.full((len(some), most), np.nan)
            for row, one in enumerate(some):
                values[row, : len(one.all_E)] = one.share_E * len(one.all_E)
            alike = len({tuple(one.stratum_E.tolist()) for one in some}) == 1
            rules = _first_experts(some[0]) if alike else []
            names = [one.block for one in some]
            grid.append([_Map(side, names, [str(expert) for expert in range(most)], values, rules, _NEVER)])
    return _drawn(grid, "", "expert (lines: strata)", f"rows over the mean of the block; {_NEVER}: never chosen", ".1f")


def draw_languages(divergences: Sequence[Divergences]) -> Figure:
    """Divergence of languages, mean over blocks, a map for each side; in the order of the tree, which stands beside.

    Args:
        divergences: of an analysis, of at least one side.
    """
    from matplotlib.figure import Figure

    size = max(len(one.languages) for one in divergences)
    cell = min(_CELL[0], _WIDEST / size / len(divergences))
    most = max(float(one.by_block[MEAN].max()) for one in divergences)
    figure = Figure(figsize=(len(divergences) * (2.6 + cell * size) + 1, 1.7 + cell * size), layout="constrained")
    axes = figure.subplots(1, 2 * len(divergences), squeeze=False, width_ratios=[1, 3] * len(divergences))[0]
    mesh = None
    for number, one in enumerate(divergences):
        leaves = one.tree.leaves
        order = [one.languages.index(name) for name in leaves]
        values = one.by_block[MEAN][np.ix_(order, order)]
        where = axes[2 * number + 1]
        mesh = _mesh(where, _Map(one.side, leaves, leaves, values), 0.0, most, ".2f", cell)
        where.tick_params(axis="x", rotation=90)
        _tree(axes[2 * number], one.tree)
    assert mesh is not None
    figure.colorbar(mesh, ax=list(axes), shrink=0.9)
    figure.suptitle("Jensen-Shannon divergence of languages (bit); 0: they choose alike", fontsize=10)
    return figure


def _tree(axes: Axes, tree: Node) -> None:
    """Joints at their divergence, leaves at the rows of the map."""
    place = {name: row + 0.5 for row, name in enumerate(tree.leaves)}

    def draw(node: Node) -> float:
        if not node.branches:
            return place[node.name]
        ends = [draw(branch) for branch in node.branches]
        axes.plot([node.height, node.height], ends, color="black", linewidth=1)
        for end, branch in zip(ends, node.branches, strict=True):
            axes.plot([branch.height, node.height], [end, end], color="black", linewidth=1)
        return sum(ends) / len(ends)

    draw(tree)
    axes.set_ylim(len(place), 0)
    axes.set_xlim(tree.height * 1.05 or 1, 0)  # the leaves at the map
    axes.set_yticks([])
    axes.set_xticks([0, tree.height], ["0", f"{tree.height:.2g}"], fontsize=8)
    axes.spines[["left", "top", "right"]].set_visible(False)


def _drawn(
    grid: Sequence[Sequence[_Map]], y_title: str, x_title: str, meaning: str, digits: str, full: bool = False
) -> Figure:
    """Maps in columns, all on one scale from 0.

    Args:
        grid: columns of maps.
        y_title: what the rows are.
        x_title: what the columns are.
        meaning: of the values.
        digits: their format.
        full: whether 100 is where the scale ends at most.
    """
    from matplotlib.figure import Figure

    every = [one for column in grid for one in column]
    across = sum(max(len(one.columns) for one in column) for column in grid)
    longest = max(sum(len(one.rows) for one in column) for column in grid)
    cell = (min(_CELL[0], _WIDEST / across), min(_CELL[1], _HIGHEST / longest))
    down = max(map(len, grid))
    size = (cell[0] * across + 1.5 * len(grid) + 1.2, cell[1] * longest + 0.75 * down + 0.7)
    figure = Figure(figsize=(max(size[0], 4.8), max(size[1], 2.4)), layout="constrained")
    axes = figure.subplots(down, len(grid), squeeze=False)
    most = max(float(np.nanmax(one.values)) for one in every)
    mesh = None
    for place, column in enumerate(grid):
        for row in range(down):
            where = axes[row][place]
            if row >= len(column):
                where.set_visible(False)
                continue
            mesh = _mesh(where, column[row], 0.0, min(most, 100.0) if full else most, digits, min(cell))
            where.set_ylabel(y_title)
            if row == len(column) - 1:
                where.set_xlabel(x_title)
    assert mesh is not None
    figure.colorbar(mesh, ax=axes, aspect=30, shrink=min(1.0, 4 / size[1]))
    figure.suptitle(meaning, fontsize=10)
    return figure


def _mesh(axes: Axes, of: _Map, low: float, high: float, digits: str, cell: float) -> Any:
    """One map; ``cell`` is the smaller side of a cell, in inches. Small ones have neither borders nor numbers."""
    font = min(8.0, 72 * cell * 0.55)
    mesh = axes.pcolormesh(
        np.ma.masked_invalid(of.values),
        cmap=COLOR_MAP,
        vmin=low,
        vmax=high or 1.0,
        edgecolors="white" if font >= 5 else "none",
        linewidth=0.4,
        rasterized=of.values.size > _VECTORS,
    )
    for axis, names in ((axes.xaxis, of.columns), (axes.yaxis, of.rows)):
        step = 1 if font >= 4 else 1 + int(4 / font)
        axis.set_ticks([place + 0.5 for place in range(0, len(names), step)], list(names)[::step])
    axes.tick_params(labelsize=max(font, 5.0), length=0)
    axes.invert_yaxis()
    axes.set_title(of.title, fontsize=9)
    for rule in of.rules:
        axes.axvline(rule, color="white", linewidth=3)
        axes.axvline(rule, color="black", linewidth=1)
    for (row, column), value in np.ndenumerate(of.values):
        text = "" if np.isnan(value) else of.zero if value == 0 else format(value, digits)
        if font >= 5 or text == _NEVER:
            colour = "black" if value > 0.55 * (high or 1.0) else "white"
            axes.text(column + 0.5, row + 0.5, text, color=colour, fontsize=0.85 * font, ha="center", va="center")
    return mesh
