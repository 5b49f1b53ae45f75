"""``smoe.moe``: the stratified mixture-of-experts blocks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from smoe_ds.config.section import Section


class MoeConfig(Section):
    """One algorithm for all: dense is ``strata: []``, vanilla MoE ``[16]``, Switch ``[16]`` with ``top_k: 1``.

    MoE+EOM is ``expert_output_masking: 0.1``, CMR ``shared_expert: cmr``, Stacking ``stacked: true`` on any of them.
    """

    strata: list[int] = Field(
        default=[4, 4], description="Experts per stratum, first stratum first; [] makes a dense model."
    )
    num_experts: int | None = Field(
        default=None, description="If set, strata must sum to it; guards against typing errors."
    )
    stacked: bool = Field(
        default=False,
        description="Make the strata plain mixtures of experts in a row (Stacking m): every token passes all of them, "
        "each gate sees its own stratum only, and there is no LayerNorm or residual in between.",
    )
    top_k: int = Field(default=2, gt=0, description="Experts per token and stratum (K).")
    every: int = Field(
        default=2, gt=0, description="2: every second layer has experts instead of one feed-forward network."
    )
    ep_size: int = Field(default=1, gt=0, description="Expert-parallel size: ranks that share one copy of the experts.")
    norm: Literal["paper", "released"] = Field(
        default="paper",
        description="paper: LayerNorm before the experts, and the residual is the input. released (the authors' code): "
        "after the first stratum the residual is the normalised input, and the block's output is normalised.",
    )
    combine_weights: Literal["after_drop", "before_drop", "raw"] = Field(
        default="after_drop",
        description="Weights of the chosen experts. after_drop: rescaled to sum to 1 over the choices that found room; "
        "before_drop: over all choices; raw: the softmax itself.",
    )
    second_expert: Literal["sample", "argmax"] = Field(
        default="sample",
        description="Second expert in training. sample: drawn with Gumbel noise; argmax: the second best. Evaluation "
        "always takes the second best.",
    )
    capacity_factor: float | None = Field(
        default=2.0,
        gt=0,
        description="In training an expert of stratum i takes at most capacity_factor * T_i / E_i rows of a "
        "micro-batch: T_i tokens in the stratum, E_i experts its gate sees. null: no limit. Evaluation and decoding "
        "never drop a row.",
    )
    capacity_order: Literal["position", "probability"] = Field(
        default="position",
        description="Who goes first when an expert is full. position: earlier positions; probability: tokens whose "
        "first choice is more probable (batch-prioritised routing). First choices always go before second ones.",
    )
    expert_output_masking: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of expert outputs set to zero in training (EOM). Evaluation scales all of them by 1 minus "
        "this share.",
    )
    shared_expert: Literal["none", "add", "cmr"] = Field(
        default="none",
        description="One more expert, in the first stratum, that every token passes. add: its output is added; cmr: a "
        "sigmoid gate mixes it with the routed experts (CMR).",
    )
    cmr_budget: float = Field(
        default=0.8, ge=0, le=1, description="CMR: the share of the routed experts that the gate is trained towards."
    )
    cmr_weight: float = Field(default=0.01, ge=0, description="CMR: weight of the loss |mean gate - cmr_budget|.")
    cmr_gate_dropout: float = Field(
        default=0.1, ge=0, lt=1, description="CMR: share of tokens that use the shared expert alone in training."
    )
    jitter: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="The gate's input is multiplied by U(1 - jitter, 1 + jitter) in training.",
    )
    gating_dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Probability that a micro-batch bypasses a block's gates in training; see gating_dropout_mode.",
    )
    gating_dropout_mode: Literal["skip", "local"] = Field(
        default="skip",
        description="What such a micro-batch does. skip: it leaves the block unchanged; local: its tokens choose among "
        "the experts on their own rank, so nothing is exchanged (no effect if ep_size is 1).",
    )
    bias_balancing: float = Field(
        default=0.0,
        ge=0,
        description="Balance the experts without a loss: each has a bias that counts for the choice only, and after "
        "each step it moves by this much towards balance. 0: off.",
    )
    load_balancing_weight: float = Field(default=0.01, ge=0, description="Weight of the load-balancing loss (Eq. 8).")
    router_z_weight: float = Field(
        default=0.0, ge=0, description="Weight of the router z-loss, the mean squared log-sum-exp of the gates' logits."
    )
    load_balancing_batch: Literal["global", "local"] = Field(
        default="global",
        description="Tokens over which the balance loss is taken. global: the micro-batches that all ranks run at the "
        "same moment; local: each rank's own.",
    )
    expert_backend: Literal["auto", "loop", "lean", "grouped"] = Field(
        default="auto",
        description="How built-in experts are computed. loop: one after the other; lean: the same with less memory, "
        "for ep_size 1; grouped: as grouped matrix products; auto: grouped if the device has a fast kernel, else lean, "
        "else loop.",
    )

    exchange_chunks: int = Field(
        default=1,
        ge=1,
        le=64,
        description="With ep_size above 1: compute a rank's experts in this many parts, each while the rows of the "
        "others travel. More than 1 pays off on a slow network.",
    )

    def rules(self) -> Iterator[tuple[str, str]]:
        if any(n < 1 for n in self.strata):
            yield "strata", f"{self.strata} has a stratum without experts; give every stratum at least one"
            return
        total = sum(self.strata)
        fewest = min(self.strata if self.stacked else self.strata[-1:], default=self.top_k)
        if self.top_k > fewest:
            yield (
                "top_k",
                f"{self.top_k} choices among {fewest} visible experts in a stratum of {self.strata}; "
                f"set top_k to {fewest} or give that stratum more experts",
            )
        if self.num_experts is not None and self.num_experts != total:
            yield (
                "strata",
                f"{self.strata} sums to {total} experts, but num_experts is {self.num_experts}; "
                f"change strata or set num_experts to {total}",
            )
        if total % self.ep_size:
            divisors = [n for n in range(1, total + 1) if total % n == 0]
            yield "ep_size", f"{self.ep_size} does not divide the {total} experts; choose one of {divisors}"
        if self.expert_backend == "lean" and self.ep_size > 1:
            yield "expert_backend", f"lean needs all experts on one rank, but ep_size is {self.ep_size}; set it to auto"

    @property
    def is_dense(self) -> bool:
        """Whether the model has no mixture-of-experts block at all."""
        return not self.strata
