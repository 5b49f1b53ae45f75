"""The settings of a block that its router knows: strata, choices, capacity."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from smoe_ds.config.section import Section

MOST_EXPERTS = 65536
"""Of a block."""


class RoutingSettings(Section):
    """What a router is told of its block."""

    strata: list[int] = Field(
        default=[4, 4], description="Experts per stratum, first stratum first; [] makes a dense model."
    )
    stacked: bool = Field(
        default=False,
        description="Make the strata plain mixtures of experts in a row (Stacking m): every token passes all of them, "
        "each gate sees its own stratum only, and there is no LayerNorm or residual in between.",
    )
    top_k: int = Field(default=2, gt=0, description="Experts per token and stratum (K).")
    second_expert: Literal["sample", "argmax"] = Field(
        default="sample",
        description="Second expert in training. sample: drawn with Gumbel noise; argmax: the second best. Evaluation "
        "always takes the second best.",
    )
    combine_weights: Literal["after_drop", "before_drop", "raw", "ones"] = Field(
        default="after_drop",
        description="Weights of the chosen experts. after_drop: rescaled to sum to 1 over the choices that found room; "
        "before_drop: over all choices; raw: the softmax itself; ones: 1 each (MoEfication), so that the gate learns "
        "nothing from the translations.",
    )
    gate_scores: Literal["linear", "cosine"] = Field(
        default="linear",
        description="What the gate's softmax is taken of. linear: the product of a token with each expert's vector; "
        "cosine: that of their directions in a space of gate_width dimensions, over a learnt temperature (X-MoE).",
    )
    gate_width: int | None = Field(
        default=None,
        ge=2,
        description="With gate_scores cosine: dimensions of that space. null: half as many as the gate sees experts, "
        "at least 2.",
    )
    jitter: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="The gate's input is multiplied by U(1 - jitter, 1 + jitter) in training.",
    )
    bias_balancing: float = Field(
        default=0.0,
        ge=0,
        description="Balance the experts without a loss: each has a bias that counts for the choice only, and after "
        "each step it moves by this much towards balance. 0: off.",
    )
    capacity_factor: float | None = Field(
        default=2.0,
        gt=0,
        description="In training an expert of stratum i takes at most capacity_factor * T_i / E_i rows of a "
        "micro-batch: T_i tokens in the stratum, E_i experts its gate sees. null: no limit, as always with routers "
        "that do not use it. Evaluation and decoding never drop a row.",
    )
    capacity_order: Literal["position", "probability"] = Field(
        default="position",
        description="Who goes first when an expert is full. position: earlier positions; probability: tokens whose "
        "first choice is more probable (batch-prioritised routing). First choices always go before second ones.",
    )


ROUTING_KEYS = frozenset(RoutingSettings.model_fields) - {"strata", "stacked"}
"""Keys of ``smoe.moe`` that say how tokens are routed; a router heeds some of them."""
