"""``kind: base``: in training the tokens are dealt out evenly, each to the expert that suits it best."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from smoe_ds.config.routers.section import RouterSection


class Base(RouterSection):
    """BASE layers (arXiv 2103.16716): a balanced assignment in training, the best expert in evaluation.

    There is no capacity and no balance loss. Each rank deals out the tokens of its own micro-batch, in every stratum
    anew: no expert gets more than ``ceil(T / E)`` of them. In training the expert of a token so depends on all other
    tokens, later ones of its sentence included, in a decoder too; this is what the authors do. A later token can only
    change which expert a token gets, and it does not in evaluation, where every token takes its own best expert.

    Differs from the authors' code, which first exchanges tokens at random between ranks, so that a rank does not deal
    out neighbours of one text. Here a micro-batch is made of sentences drawn from all directions, and the loads of the
    ranks, each even, sum to even ones, so the two exchanges more would buy nothing. ``gate_init: orthogonal`` starts
    gates as the authors do.
    """

    module: ClassVar[str] = "smoe_ds.moe.routers.base:BaseRouter"
    balanced: ClassVar[bool] = False

    kind: Literal["base"] = Field(
        default="base",
        description="One expert. Training deals the tokens out evenly for the largest sum of scores, evaluation takes "
        "the best (BASE layers).",
    )
