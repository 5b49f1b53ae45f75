"""``kind: top_p``: as many experts as it takes to reach a share of the gate's probability."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from smoe_ds.config.routers.section import RouterSection
from smoe_ds.config.routing import RoutingSettings


class TopP(RouterSection):
    """Threshold routing: XMoE (arXiv 2403.18926); HMoE's top-p (arXiv 2408.10681) has ``threshold`` 0.6,
    ``combine_weights`` after_drop and ``entropy_weight`` 0.03."""

    module: ClassVar[str] = "smoe_ds.moe.routers.top_p:TopPRouter"
    heeds: ClassVar[frozenset[str]] = frozenset(
        {"gate_scores", "gate_width", "jitter", "capacity_factor", "capacity_order"}
    )

    kind: Literal["top_p"] = Field(
        default="top_p",
        description="The most probable experts of a softmax gate, as many as reach a threshold together (XMoE, HMoE).",
    )
    threshold: float = Field(
        default=0.9,
        ge=0,
        description="A token takes an expert if the more probable ones have less than this together; 0: the first one.",
    )
    max_experts: int | None = Field(
        default=4,
        gt=0,
        description="Most experts that a token takes. It bounds the cost at the start, when gates are even. null: all.",
    )
    combine_weights: Literal["raw", "after_drop", "before_drop"] = Field(
        default="raw",
        description="Weights of the experts taken. raw: the softmax itself; after_drop: rescaled to sum to 1 over "
        "those that found room; before_drop: over all of them. With max_experts 1 always raw.",
    )
    entropy_weight: float = Field(
        default=0.0,
        ge=0,
        description="Weight of a loss that makes gates decided, their mean entropy, so that tokens take fewer experts.",
    )

    def most_experts(self, visible: int) -> int:
        """Experts that a token may take of those that the gate sees."""
        return visible if self.max_experts is None else min(self.max_experts, visible)

    def mean_choices(self, block: RoutingSettings, visible: int) -> float:
        """Of an even gate, where each expert has probability 1/E."""
        wanted = sum(place < self.threshold * visible for place in range(visible))
        return float(min(max(wanted, 1), self.most_experts(visible)))

    def losses(self) -> dict[str, float]:
        return {"gate_entropy_loss": self.entropy_weight}
