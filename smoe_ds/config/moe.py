"""``smoe.moe``: the stratified mixture-of-experts blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from smoe_ds.config.section import Section


class MoeConfig(Section):
    """One algorithm for all: dense is ``strata: []``, vanilla MoE ``[16]``, Switch ``[16]`` with ``top_k: 1``."""

    strata: list[int] = Field(
        default=[4, 4], description="Experts per stratum, first stratum first; [] makes a dense model."
    )
    num_experts: int | None = Field(
        default=None, description="If set, must equal the sum of strata (a check against slips)."
    )
    top_k: Literal[1, 2] = Field(default=2, description="Experts per token and stratum (K).")
    every: int = Field(
        default=2, gt=0, description="Every n-th layer's feed-forward network is a mixture-of-experts block."
    )
    ep_size: int = Field(default=1, gt=0, description="Expert-parallel size: ranks that share one copy of the experts.")
    norm: Literal["paper", "released"] = Field(
        default="paper",
        description="paper: LayerNorm before dispatch, residual is the input. "
        "released: after the first stratum the residual is the normalised input, and the block output is normalised.",
    )
    combine_weights: Literal["after_drop", "before_drop", "raw"] = Field(
        default="after_drop",
        description="Expert weights: renormalised over the choices that survive capacity, over all choices, "
        "or raw softmax.",
    )
    second_expert: Literal["sample", "argmax"] = Field(
        default="sample",
        description="Second expert in training: drawn with Gumbel noise, or the second best. Evaluation: second best.",
    )
    capacity_factor: float | None = Field(
        default=2.0,
        gt=0,
        description="An expert of stratum i takes at most capacity_factor * T_i / E_i rows of a micro-batch in "
        "training; null: no limit. Evaluation and decoding never drop.",
    )
    load_balancing_weight: float = Field(default=0.01, ge=0, description="Weight of the load-balancing loss (Eq. 8).")
    load_balancing_batch: Literal["global", "local"] = Field(
        default="global",
        description="Batch over which the balance loss is taken: the micro-batches of all ranks, or one rank's.",
    )

    def rules(self) -> Iterator[tuple[str, str]]:
        if any(n < 1 for n in self.strata):
            yield "strata", f"{self.strata} holds a stratum without experts; give every stratum at least one"
            return
        total = sum(self.strata)
        if self.num_experts is not None and self.num_experts != total:
            yield (
                "strata",
                f"{self.strata} sums to {total} experts, but num_experts is {self.num_experts}; "
                f"change strata or set num_experts to {total}",
            )
        if total % self.ep_size:
            divisors = [n for n in range(1, total + 1) if total % n == 0]
            yield "ep_size", f"{self.ep_size} does not divide the {total} experts; choose one of {divisors}"

    @property
    def is_dense(self) -> bool:
        """Whether the model has no mixture-of-experts block at all."""
        return not self.strata
