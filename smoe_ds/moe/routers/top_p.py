"""The softmax gate with a threshold: a token takes as many experts as reach it together."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from smoe_ds.config.block import BlockSettings
from smoe_ds.config.routers.top_p import TopP
from smoe_ds.moe.gate import rescaled_weights
from smoe_ds.moe.routers.softmax import SoftmaxRouter
from smoe_ds.moe.routing import Routing, RoutingContext


class TopPRouter(SoftmaxRouter):
    """Experts by falling probability, each taken while those before it sum to less than the threshold.

    Source: XMoE, arXiv 2403.18926, 3.2; HMoE, arXiv 2408.10681, 3.1. The entropy loss minimises ``-sum p log p``, as
    HMoE says it does; its Eq. 5 has the other sign.
    """

    def __init__(self, block: BlockSettings, d_model: int, visible: int) -> None:
        super().__init__(block, d_model, visible)
        self.settings: TopP = block.router

    def forward(self, h_TD: Tensor, gate_ED: Tensor | None, context: RoutingContext) -> Routing:
        assert gate_ED is not None
        gated = self.gate(h_TD, gate_ED, context)
        expert_TK, chosen_TK = self._choose(gated.probs_TE.detach(), context.forbidden_E)
        weights_TK = gated.probs_TE.gather(1, expert_TK) * chosen_TK
        by_probability = self.block.capacity_order == "probability"
        sums = gated.sums
        if sums is not None and self.settings.entropy_weight:
            sums = replace(sums, losses={"gate_entropy_loss": _entropy_with_gradient(gated.probs_TE)})
        return Routing(
            expert_TK,
            weights_TK,
            sums,
            chosen_TK=chosen_TK,
            priority_T=weights_TK[:, 0].detach() if by_probability else None,
        )

    def _choose(self, probs_TE: Tensor, forbidden_E: Tensor | None) -> tuple[Tensor, Tensor]:
        """The most probable experts [T, K], ties to the lower number, and which of them are taken."""
        most = self.settings.most_experts(self.visible)
        sorted_TE, expert_TE = probs_TE.sort(dim=-1, descending=True, stable=True)
        expert_TK = expert_TE[:, :most]
        before_TK = torch.zeros_like(sorted_TE[:, :most])
        before_TK[:, 1:] = sorted_TE[:, : most - 1].cumsum(dim=-1)
        chosen_TK = before_TK < self.settings.threshold
        if forbidden_E is not None:
            chosen_TK &= ~forbidden_E[expert_TK]
        chosen_TK[:, 0] = True
        return expert_TK, chosen_TK

    def weights(self, routing: Routing, kept_TK: Tensor | None) -> Tensor:
        # By the most that a token may take, not by what the tokens of this batch do take.
        mode = "raw" if self.settings.most_experts(self.visible) == 1 else self.settings.combine_weights
        return rescaled_weights(routing.weights_TK, kept_TK, mode)


def _entropy_with_gradient(probs_TE: Tensor) -> Tensor:
    """Entropy summed over tokens [nat]; a probability of 0 has no gradient."""
    return -(probs_TE * probs_TE.clamp(min=torch.finfo(probs_TE.dtype).tiny).log()).sum()
