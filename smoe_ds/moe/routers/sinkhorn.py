"""The best experts, in training by scores that Sinkhorn's algorithm has evened out."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from smoe_ds.config.block import BlockSettings
from smoe_ds.config.routers.sinkhorn import Sinkhorn
from smoe_ds.moe.gate import gate_logits
from smoe_ds.moe.routers.router import Router, fixed_routing, without
from smoe_ds.moe.routing import Routing, RoutingContext


class SinkhornRouter(Router):
    """The best experts by score plus a bias by expert; the bias makes the table of tokens and experts even.

    Every round scales the rows of ``exp(scores)`` to sum to 1 and then its columns to sum to T/E. A row's factor is the
    same for all of its experts, so only the columns' factors decide. The number of rounds is fixed, so nothing waits
    for the device to say whether they converged.

    Source: Clark et al., arXiv 2202.01169, on top of arXiv 2103.16716; weights as in Megatron-Core.
    """

    def __init__(self, block: BlockSettings, d_model: int, visible: int) -> None:
        super().__init__(block, d_model, visible)
        self.settings: Sinkhorn = block.router

    def forward(self, h_TD: Tensor, gate_ED: Tensor | None, context: RoutingContext) -> Routing:
        assert gate_ED is not None
        scores_TE = gate_logits(h_TD, gate_ED)
        allowed_TE = without(scores_TE, context.forbidden_E)
        preference_TE = allowed_TE.detach()
        if context.training:
            preference_TE = preference_TE + column_factors(preference_TE, self.settings.rounds)
        expert_TK = preference_TE.sort(dim=1, descending=True, stable=True)[1][:, : self.block.top_k]
        probs_TE = torch.sigmoid(scores_TE) if self.block.top_k == 1 else torch.softmax(allowed_TE, dim=1)
        return replace(
            fixed_routing(expert_TK[:, 0], self.visible, h_TD),
            expert_TK=expert_TK,
            weights_TK=probs_TE.gather(1, expert_TK),
        )


def column_factors(scores_TE: Tensor, rounds: int) -> Tensor:
    """Logarithms of the factors by which Sinkhorn's algorithm scales the columns of ``exp(scores)`` [E].

    A single token has nothing to be balanced with: its factors would make all experts equal, so they are left at 1.

    Args:
        scores_TE: minus infinity throughout for an expert that must not be chosen, whose factor stays 1.
        rounds: how often rows and columns are scaled.
    """
    num_tokens, num_experts = scores_TE.shape
    open_E = torch.isfinite(scores_TE).any(0)
    share = math.log(max(num_tokens, 1)) - open_E.sum(dtype=scores_TE.dtype).clamp(min=1).log()
    factor_E = scores_TE.new_zeros(num_experts)
    for _ in range(rounds if num_tokens > 1 else 0):
        row_T = -torch.logsumexp(scores_TE + factor_E, dim=1)
        column_E = torch.logsumexp(scores_TE + row_T.unsqueeze(1), dim=0)
        factor_E = torch.where(open_E, share - column_E, factor_E)
    return factor_E
