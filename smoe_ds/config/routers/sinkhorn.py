"""``kind: sinkhorn``: in training Sinkhorn's algorithm evens out the scores by which tokens choose experts."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from smoe_ds.config.routers.section import RouterSection
from smoe_ds.config.routing import RoutingSettings


class Sinkhorn(RouterSection):
    """S-BASE (arXiv 2202.01169) with ``top_k`` 1, and Megatron-Core's ``sinkhorn``.

    Each rank evens out the scores of its own micro-batch, in every stratum anew: as probabilities they then sum to the
    same for every expert. Each token takes its best experts by them, so that loads come out more even, but not even;
    BASE deals out exact shares. In training the expert of a token depends on all other tokens, later ones of its
    sentence included, in a decoder too, as in BASE layers. Evaluation takes the best experts by the scores themselves.

    Differs from Megatron-Core: there a tolerance ends the rounds, and gates can have jitter and a z-loss.
    """

    module: ClassVar[str] = "smoe_ds.moe.routers.sinkhorn:SinkhornRouter"
    heeds: ClassVar[frozenset[str]] = frozenset({"top_k", "capacity_factor"})
    balanced: ClassVar[bool] = False

    kind: Literal["sinkhorn"] = Field(
        default="sinkhorn",
        description="The top_k best experts; training first evens out the scores by Sinkhorn's algorithm (S-BASE, "
        "Megatron-Core). A single expert's weight is the sigmoid of its score, several have softmax probabilities.",
    )
    rounds: int = Field(
        default=20,
        gt=0,
        description="Rounds of the algorithm, each over all tokens and experts. Large scores need more of them.",
    )

    def fewest_experts(self, block: RoutingSettings) -> int:
        return block.top_k

    def mean_choices(self, block: RoutingSettings, visible: int) -> float:
        return float(block.top_k)
