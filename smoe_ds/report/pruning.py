"""A pruned export: which experts went, and what that costs in each direction."""

from __future__ import annotations

from smoe_ds.analysis.pruning import Pruning
from smoe_ds.analysis.pruning_cost import DirectionCost, MeanCost, PruningCost
from smoe_ds.report.scores import CUT, MIXED
from smoe_ds.report.tables import RULE, Cell, Column, Marked, Table


def removed_text(pruning: Pruning) -> str:
    """A line for each block: how many experts are kept, and which go; and what was too long to be counted."""
    total = pruning.num_experts
    lines = [
        f"{block}: {total - len(numbers)} of {total} experts kept, removed {', '.join(map(str, numbers)) or 'none'}"
        for block, numbers in pruning.removed.items()
    ]
    if pruning.too_long:
        counts = ", ".join(f"{direction} {number}" for direction, number in pruning.too_long.items())
        lines.append(f"sentence pairs too long to be counted: {counts}")
    return "\n".join(lines)


def cost_table(cost: PruningCost) -> Table:
    """Scores of the whole and the pruned model by direction, and means below."""
    columns = [Column("direction", "direction", "left"), Column("cut", "truncated", missing="")]
    columns += [Column("tokenizer", "tokenizer", "left")]
    for metric, key in (("BLEU", "bleu"), ("chrF++", "chrf")):
        columns += [
            Column(f"{metric} whole", f"{key}_whole", format=".2f"),
            Column("pruned", f"{key}_pruned", format=".2f"),
            Column("difference", f"{key}_difference", format=".2f"),
        ]
    rows = map(_direction, cost.directions)
    means = [_mean(one) for one in cost.means]
    mixed = any(len(one.tokenizers) > 1 for one in cost.means)
    notes = [*([CUT] if any(one.truncated for one in cost.directions) else []), *([MIXED] if mixed else [])]
    return Table(tuple(columns), (*rows, *([RULE] if means else []), *means), tuple(notes))


def _direction(one: DirectionCost) -> tuple[Cell, ...]:
    scores = _scores((one.whole.bleu, one.whole.chrf), (one.pruned.bleu, one.pruned.chrf))
    return (one.direction, one.truncated, one.tokenizer, *scores)


def _mean(one: MeanCost) -> tuple[Cell, ...]:
    scores = _scores(one.whole, one.pruned)
    name = f"mean of {one.directions} {one.name}"
    if len(one.tokenizers) > 1:
        return (name, None, "mixed", *(Marked(bleu, "*") for bleu in scores[:3]), *scores[3:])
    return (name, None, one.tokenizers[0], *scores)


def _scores(whole: tuple[float, float], pruned: tuple[float, float]) -> list[float]:
    """BLEU whole, pruned and their difference, then chrF++."""
    return [value for before, after in zip(whole, pruned, strict=True) for value in (before, after, after - before)]
