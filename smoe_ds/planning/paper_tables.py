"""Parameters and FLOPs per token of every row of the paper's two result tables, computed and published."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from smoe_ds.config.model import ModelConfig
from smoe_ds.config.moe import MoeConfig
from smoe_ds.model.transformer_cost import MicroBatch, transformer
from smoe_ds.moe.cost import Cost

VOCAB_SIZE = 32_000
SIZES = {"M4": (512, 2048), "M15": (1024, 4096)}
DENSE_FLOPS = {"M4": 167e6, "M15": 506e6}
"""FLOPs per token of the dense models as published; the paper does not say what it counts besides matrix products."""

SLIPS = {
    ("M4", "Stacking 4 2-expert MoE"): "published FLOPs are not those of 8 experts per token, as its other rows are",
    ("M15", "SMoE-8-4-4"): "published FLOPs are below those of its strata, as its other rows are counted",
}
FFN_KINDS = ("feed_forward", "experts", "shared_experts")
_M, _B = 10**6, 10**9  # the paper rounds parameters to 1M, above a billion to 10M


@dataclass(frozen=True)
class Row:
    """A row of a table: the system's settings and the published values."""

    system: str
    strata: tuple[int, ...]
    published_parameters: int
    published_flops: int
    top_k: int = 2
    stacked: bool = False
    cmr: bool = False


TABLES: dict[str, tuple[Row, ...]] = {
    "M4": (
        Row("Dense", (), 60 * _M, 167 * _M),
        Row("Vanilla MoE", (8,), 148 * _M, 192 * _M),
        Row("Switch Transformer", (8,), 148 * _M, 167 * _M, top_k=1),
        Row("MoE+EOM", (8,), 148 * _M, 192 * _M),
        Row("CMR", (8,), 161 * _M, 217 * _M, cmr=True),
        Row("Stacking 2 4-expert MoE", (4, 4), 148 * _M, 242 * _M, stacked=True),
        Row("SMoE-4-4", (4, 4), 148 * _M, 217 * _M),
        Row("Stacking 4 2-expert MoE", (2, 2, 2, 2), 148 * _M, 327 * _M, stacked=True),
        Row("SMoE-2-2-2-2", (2, 2, 2, 2), 148 * _M, 247 * _M),
    ),
    "M15": (
        Row("Dense", (), 209 * _M, 506 * _M),
        Row("Vanilla MoE", (16,), 963 * _M, 606 * _M),
        Row("Switch Transformer", (16,), 963 * _M, 506 * _M, top_k=1),
        Row("MoE+EOM", (16,), 963 * _M, 606 * _M),
        Row("CMR", (16,), 1010 * _M, 707 * _M, cmr=True),
        Row("SMoE-4-12", (4, 12), 963 * _M, 656 * _M),
        Row("SMoE-12-4", (12, 4), 963 * _M, 757 * _M),
        Row("SMoE-8-8", (8, 8), 963 * _M, 707 * _M),
        Row("SMoE-4-4-8", (4, 4, 8), 963 * _M, 724 * _M),
        Row("SMoE-8-4-4", (8, 4, 4), 963 * _M, 805 * _M),
        Row("SMoE-4-4-4-4", (4, 4, 4, 4), 963 * _M, 825 * _M),
        Row("Vanilla MoE, 32 experts", (32,), 1770 * _M, 606 * _M),
    ),
}


@dataclass(frozen=True)
class PaperRow:
    """A row computed beside its published values; ``rounding`` is the published parameters' last digit."""

    table: str
    system: str
    parameters: int
    flops_per_token: int
    published_parameters: int
    published_flops_per_token: int
    rounding: int
    note: str | None = None

    @property
    def only_rounded(self) -> bool:
        """The parameters are further off than a million, and no further than the published rounding."""
        return _M < abs(self.parameters - self.published_parameters) <= self.rounding / 2

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def paper_rows() -> list[PaperRow]:
    """Every row of the tables for M4 and M15, in the paper's order."""
    return [_computed(table, row) for table, rows in TABLES.items() for row in rows]


def paper_flops(published: float, cost: Cost, dense: Cost) -> float:
    """FLOPs per token as the paper counts them: the dense model's published ones, and what experts come to beyond its
    feed-forward networks, gates left out.

    Args:
        published: of the dense model.
        cost: of the model, one token on each side.
        dense: of the dense model, likewise.
    """
    return published + cost.flops_of(*FFN_KINDS) - dense.flops_of(*FFN_KINDS)


def _computed(table: str, row: Row) -> PaperRow:
    model = ModelConfig(d_model=SIZES[table][0], d_ffn=SIZES[table][1])
    shared: Literal["cmr", "none"] = "cmr" if row.cmr else "none"
    moe = MoeConfig(strata=list(row.strata), top_k=row.top_k, stacked=row.stacked, shared_expert=shared)
    cost, dense = (transformer(model, m, VOCAB_SIZE, MicroBatch(1)).total for m in (moe, MoeConfig(strata=[])))
    return PaperRow(
        table=table,
        system=row.system,
        parameters=cost.matrices,
        flops_per_token=round(paper_flops(DENSE_FLOPS[table], cost, dense)),
        published_parameters=row.published_parameters,
        published_flops_per_token=row.published_flops,
        rounding=10 * _M if row.published_parameters > _B else _M,
        note=SLIPS.get((table, row.system)),
    )
