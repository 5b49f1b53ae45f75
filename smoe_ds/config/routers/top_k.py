"""``kind: top_k``: the K most probable experts of a linear gate."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from smoe_ds.config.routers.section import RouterSection
from smoe_ds.config.routing import ROUTING_KEYS, RoutingSettings


class TopK(RouterSection):
    """The paper's gate (Eq. 4-6); with ``top_k`` 1 that of Switch (arXiv 2101.03961)."""

    module: ClassVar[str] = "smoe_ds.moe.routers.top_k:TopKRouter"
    heeds: ClassVar[frozenset[str]] = ROUTING_KEYS
    prunable: ClassVar[bool] = True

    kind: Literal["top_k"] = Field(
        default="top_k", description="The top_k most probable experts of a softmax gate (the paper; Switch with 1)."
    )

    def fewest_experts(self, block: RoutingSettings) -> int:
        return block.top_k

    def mean_choices(self, block: RoutingSettings, visible: int) -> float:
        return float(block.top_k)
