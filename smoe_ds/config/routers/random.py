"""``kind: random``: no router at all; each micro-batch draws one expert, and two passes learn to agree (THOR)."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from smoe_ds.config.routers.section import RouterSection


class Random(RouterSection):
    """THOR (arXiv 2110.04260): stochastic experts and a loss that makes them consistent."""

    module: ClassVar[str] = "smoe_ds.moe.routers.random:RandomRouter"
    balanced: ClassVar[bool] = False

    kind: Literal["random"] = Field(
        default="random", description="One expert, drawn for a whole micro-batch in training; no capacity (THOR)."
    )
    consistency: float = Field(
        default=5.0,
        ge=0,
        description="Training runs each micro-batch twice, with other draws, and adds this times the mean of both KL "
        "divergences between the two predictions to the mean of their cross-entropies. The paper adds the "
        "cross-entropies up: its weight counts half of this one. 0: one pass.",
    )
    at_evaluation: Literal["mean", "fixed"] = Field(
        default="mean",
        description="Evaluation and decoding. mean: the mean of all experts, E times the FLOPs, and tokens pass every "
        "stratum; fixed: one expert of each stratum, always the same.",
    )

    def gate_rows(self, visible: int) -> int:
        return 0

    def consistency_weight(self) -> float:
        return self.consistency
