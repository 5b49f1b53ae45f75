"""A pruned export: which experts went, and what that costs in each direction."""

from __future__ import annotations

from smoe_ds.analysis.pruning import Pruning
from smoe_ds.analysis.pruning_cost import PruningCost
from smoe_ds.report.tables import RULE, Cell, Column, Table


def removed_text(pruning: Pruning) -> str:
    """A line for each block: how many experts are kept, and which go."""
    total = pruning.num_experts
    return "\n".join(
        f"{block}: {total - len(numbers)} of {total} experts kept, removed {', '.join(map(str, numbers)) or 'none'}"
        for block, numbers in pruning.removed.items()
    )


def cost_table(cost: PruningCost) -> Table:
    """Scores of the whole and the pruned model by direction, and means below."""
    columns = [Column("direction", "direction", "left")]
    for metric, key in (("BLEU", "bleu"), ("chrF++", "chrf")):
        columns += [
            Column(f"{metric} whole", f"{key}_whole", format=".2f"),
            Column("pruned", f"{key}_pruned", format=".2f"),
            Column("difference", f"{key}_difference", format=".2f"),
        ]
    rows = [
        _row(one.direction, (one.whole.bleu, one.whole.chrf), (one.pruned.bleu, one.pruned.chrf))
        for one in cost.directions
    ]
    means = [_row(f"mean of {one.directions} {one.name}", one.whole, one.pruned) for one in cost.means]
    return Table(tuple(columns), (*rows, *([RULE] if means else []), *means))


def _row(name: str, whole: tuple[float, float], pruned: tuple[float, float]) -> tuple[Cell, ...]:
    cells: list[Cell] = [name]
    for before, after in zip(whole, pruned, strict=True):
        cells += [before, after, after - before]
    return tuple(cells)
