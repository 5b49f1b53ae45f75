"""An export with fewer experts: which of them went or became one, and what that costs in each direction."""

from __future__ import annotations

from collections.abc import Mapping

from smoe_ds.analysis.merging import Merging
from smoe_ds.analysis.pruning import Pruning
from smoe_ds.analysis.pruning_cost import DirectionCost, MeanCost, PruningCost
from smoe_ds.report.scores import CUT, MIXED
from smoe_ds.report.tables import RULE, Cell, Column, Marked, Table


def removed_text(pruning: Pruning) -> str:
    """A line for each block: how many experts are kept, and which go; and what was too long to be counted."""
    lines = []
    for block, numbers in pruning.removed.items():
        total, gone = pruning.num_experts[block], ", ".join(map(str, numbers)) or "none"
        lines.append(f"{block}: {total - len(numbers)} of {total} experts kept, removed {gone}")
    return "\n".join([*lines, *_too_long(pruning.too_long)])


def merged_text(merging: Merging) -> str:
    """A line for each block: how many experts are left, which became one, and the least CKA of two of these."""
    lines = []
    for block, groups in merging.groups.items():
        told = []
        for group in groups:
            members = sorted(group.experts)
            least = merging.similarity[block][members][:, members].min()
            told.append(f"{'+'.join(map(str, members))} (CKA {least:.2f})")
        total = merging.num_experts[block]
        lines.append(f"{block}: {merging.number} of {total} experts left, merged {', '.join(told) or 'none'}")
    return "\n".join([*lines, *_too_long(merging.too_long)])


def _too_long(counts: Mapping[str, int]) -> list[str]:
    told = ", ".join(f"{direction} {number}" for direction, number in counts.items())
    return [f"sentence pairs too long to be counted: {told}"] if told else []


def cost_table(cost: PruningCost, smaller: str = "pruned") -> Table:
    """Scores of the whole and the smaller model by direction, and means below.

    Args:
        cost: the scores.
        smaller: what the smaller model is called.
    """
    columns = [Column("direction", "direction", "left"), Column("cut", "truncated", missing="")]
    columns += [Column("tokenizer", "tokenizer", "left")]
    for metric, key in (("BLEU", "bleu"), ("chrF++", "chrf")):
        columns += [
            Column(f"{metric} whole", f"{key}_whole", format=".2f"),
            Column(smaller, f"{key}_pruned", format=".2f"),
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
