"""``kind: adapters``: one feed-forward network for all experts of a block, and a small adapter for each."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from smoe_ds.config.experts.section import ExpertsSection


class Adapters(ExpertsSection):
    """PESC (arXiv 2401.02731): expert e makes ``u + scale * up_e(gelu(down_e(dropout(u))))`` of ``u = FFN(h)``."""

    module: ClassVar[str | None] = "smoe_ds.moe.experts_adapters:AdapterCommon"
    per_row: ClassVar[bool] = False
    loop_only: ClassVar[str | None] = "adapters are computed one after the other"
    one_rank: ClassVar[str | None] = "adapters are small, so exchanging rows costs more than holding all of them"
    one_width: ClassVar[str | None] = "adapters share one network"

    kind: Literal["adapters"] = Field(
        default="adapters",
        description="All experts of a block share one feed-forward network, computed once a token; each adds its own "
        "adapter (PESC). For ep_size 1.",
    )
    rank: int = Field(default=64, gt=0, description="Inner width of an adapter.")
    scale: float = Field(default=1.0, gt=0, description="Factor of what an adapter adds.")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="Dropout of an adapter's input.")
