"""``kind: expert_choice``: experts choose their tokens."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from smoe_ds.config.routers.section import RouterSection, Side
from smoe_ds.config.routing import RoutingSettings


class ExpertChoice(RouterSection):
    """Expert choice (arXiv 2202.09368): each expert takes the tokens of a group that score highest with it.

    Of n tokens that a group has in a stratum an expert takes ``ceil(mean_experts * n / E)``, so there is nothing to
    balance and no capacity. A group is a sentence, and then the ceiling is a trap: with more experts than
    ``mean_experts * n`` each still takes one token. The whole batch as group, as in the paper, is for training only: a
    translation would depend on the sentences beside it. The paper's limit on the experts of a token is left out: it
    gained nothing there.
    """

    module: ClassVar[str] = "smoe_ds.moe.routers.expert_choice:ExpertChoiceRouter"
    uses_load_balancing: ClassVar[bool] = False
    needs: ClassVar[frozenset[str]] = frozenset({"sentence"})

    kind: Literal["expert_choice"] = Field(
        default="expert_choice",
        description="Each expert takes the tokens of a sentence that suit it best (expert choice); encoder only.",
    )
    mean_experts: float = Field(
        default=2.0, gt=0, description="Mean number of experts per token and stratum, rounded up for each expert."
    )
    group: Literal["sentence", "batch"] = Field(
        default="sentence",
        description="Tokens that an expert takes its share of. sentence: each sentence; batch: in training a rank's "
        "whole micro-batch, in evaluation each sentence.",
    )

    def mean_choices(self, block: RoutingSettings, visible: int) -> float:
        return min(self.mean_experts, float(visible))

    def problem_on(self, side: Side) -> str | None:
        if side == "encoder":
            return None
        return (
            "expert_choice looks at later tokens, which a decoder cannot; give the decoder another router: "
            'layers {"decoder.*": {"router": {"kind": "top_k"}}}'
        )
