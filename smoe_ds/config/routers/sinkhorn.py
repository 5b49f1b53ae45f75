"""``kind: sinkhorn``: in training an even share of the tokens for every expert, nearly, by Sinkhorn's algorithm."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from smoe_ds.config.routers.section import RouterSection
from smoe_ds.config.routing import RoutingSettings


class Sinkhorn(RouterSection):
    """S-BASE (arXiv 2202.01169) with ``top_k`` 1, and Megatron-Core's ``sinkhorn``: an assignment that is close to
    balanced in training, the best experts in evaluation.

    Each rank balances the tokens of its own micro-batch, in every stratum anew, and there is no balance loss. BASE
    balances exactly, and costs more. In training the expert of a token depends on all other tokens, later ones of its
    sentence included, in a decoder too, as in BASE layers.
    """

    module: ClassVar[str] = "smoe_ds.moe.routers.sinkhorn:SinkhornRouter"
    heeds: ClassVar[frozenset[str]] = frozenset({"top_k", "capacity_factor"})
    balanced: ClassVar[bool] = False

    kind: Literal["sinkhorn"] = Field(
        default="sinkhorn",
        description="The top_k best experts; training first makes the scores even by Sinkhorn's algorithm (S-BASE, "
        "Megatron-Core). A single expert's weight is the sigmoid of its score, several have softmax probabilities.",
    )
    rounds: int = Field(
        default=20,
        gt=0,
        description="Rounds of the algorithm, each over all tokens and experts. More of them make loads more even.",
    )

    def fewest_experts(self, block: RoutingSettings) -> int:
        return block.top_k

    def mean_choices(self, block: RoutingSettings, visible: int) -> float:
        return float(block.top_k)
