"""``kind: dynamic``: every expert has a threshold, a token takes all experts above theirs, and experts come and go."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from smoe_ds.config.routers.section import RouterSection
from smoe_ds.config.routing import RoutingSettings


class Dynamic(RouterSection):
    """DynMoE (arXiv 2405.14297). No expert has a capacity; the strata are the largest numbers of experts."""

    module: ClassVar[str] = "smoe_ds.moe.routers.dynamic:DynamicRouter"

    kind: Literal["dynamic"] = Field(
        default="dynamic", description="All experts whose threshold a token exceeds; experts come and go (DynMoE)."
    )
    start_experts: int | None = Field(
        default=None,
        gt=0,
        description="Experts of each gate that are on at the start, spread over those it sees. null: all.",
    )
    cycle: int = Field(
        default=900,
        ge=0,
        description="Once in so many steps a gate removes the experts that no token took and adds one if there were "
        "tokens that took none. 0: never.",
    )
    record_after: int = Field(
        default=300, ge=0, description="Steps at the start of a cycle before the use of experts is recorded."
    )
    record_steps: int = Field(
        default=300, gt=0, description="Steps in which it is recorded; after the last one experts come and go."
    )
    diversity_weight: float = Field(
        default=0.01, ge=0, description="Weight of the loss that keeps the experts' vectors orthogonal."
    )
    simplicity_weight: float = Field(
        default=0.01, ge=0, description="Weight of the loss that keeps the experts' vectors short."
    )
    efficiency_weight: float = Field(
        default=0.0, ge=0, description="Weight of the loss on the share of experts that a token takes. 0: off."
    )

    def rules(self) -> Iterator[tuple[str, str]]:
        end = self.record_after + self.record_steps
        if self.cycle and end > self.cycle:
            yield (
                "cycle",
                f"{self.cycle} ends before record_after + record_steps = {end}; raise it or shorten these",
            )

    def problems(self, block: RoutingSettings) -> Iterator[tuple[str, str]]:
        fewest = min(block.strata if block.stacked else block.strata[-1:])
        if self.start_experts is not None and self.start_experts > fewest:
            yield (
                "router",
                f"start_experts {self.start_experts} is above the {fewest} experts that a gate of strata "
                f"{block.strata} sees; set it to {fewest} or less, or give that stratum more experts",
            )

    def experts_on(self, visible: int) -> int:
        """Experts of a gate that are on at the start, of the ``visible`` ones."""
        return visible if self.start_experts is None else self.start_experts

    def mean_choices(self, block: RoutingSettings, visible: int) -> float:
        return self.experts_on(visible) / 2  # a cosine is above the threshold's 0 as often as below

    def gate_rows(self, visible: int) -> int:
        return 0

    def own_parameters(self, d_model: int, visible: int) -> int:
        return visible * (d_model + 1)

    def gate_flops(self, d_model: int, visible: int) -> float:
        return 2.0 * visible * d_model

    def losses(self) -> dict[str, float]:
        return {
            "diversity_loss": self.diversity_weight,
            "simplicity_loss": self.simplicity_weight,
            "efficiency_loss": self.efficiency_weight,
        }
