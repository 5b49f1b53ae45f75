"""Expert choice: the best tokens of each expert, group by group."""

from __future__ import annotations

import torch
from torch import Tensor

from smoe_ds.config.block import BlockSettings
from smoe_ds.config.routers.expert_choice import ExpertChoice
from smoe_ds.moe.gate import gate_logits
from smoe_ds.moe.routers.router import Router, entropy_sum, without, z_sum
from smoe_ds.moe.routing import GateSums, Routing, RoutingContext


class ExpertChoiceRouter(Router):
    """A token takes the experts that took it, weighted by their softmax probabilities, not rescaled.

    The next stratum follows the token's most probable expert, whether or not that took it; a token that none took
    keeps its vector.

    Source: Zhou et al., arXiv 2202.09368, 3.2.
    """

    def __init__(self, block: BlockSettings, d_model: int, visible: int) -> None:
        super().__init__(block, d_model, visible)
        self.settings: ExpertChoice = block.router

    def forward(self, h_TD: Tensor, gate_ED: Tensor | None, context: RoutingContext) -> Routing:
        assert gate_ED is not None and context.tokens is not None
        logits_TE = gate_logits(h_TD, gate_ED)
        probs_TE = torch.softmax(without(logits_TE, context.forbidden_E), dim=-1)
        group_T = context.tokens.sentence
        if context.training and self.settings.group == "batch":
            group_T = torch.zeros_like(group_T)
        with torch.no_grad():
            taken_TE = best_of_groups(probs_TE, group_T, self.settings.mean_experts, context.forbidden_E)
            order_TE = _taken_first(probs_TE, taken_TE)
        return Routing(
            order_TE,
            probs_TE.gather(1, order_TE),
            GateSums(probs_TE.sum(0), entropy_sum(probs_TE), z_sum(logits_TE)),
            chosen_TK=taken_TE.gather(1, order_TE),
        )


def best_of_groups(
    scores_TE: Tensor, group_T: Tensor, mean_experts: float, forbidden_E: Tensor | None = None
) -> Tensor:
    """Which tokens each expert takes: the ``ceil(mean_experts * n / E)`` best of every group of n.

    Args:
        scores_TE: [T, E]; equal ones go to the lower token.
        group_T: number of each token's group [T], int64.
        mean_experts: experts per token, on average.
        forbidden_E: True where an expert takes no token [E]; E counts the others only.

    Returns:
        True where the expert takes the token [T, E].
    """
    by_score_TE = scores_TE.argsort(dim=0, descending=True, stable=True)
    order_TE = group_T[by_score_TE].argsort(dim=0, stable=True)
    groups_T = group_T.sort().values
    start_T = torch.searchsorted(groups_T, groups_T)
    size_T = torch.searchsorted(groups_T, groups_T, right=True) - start_T
    allowed = scores_TE.shape[1] if forbidden_E is None else (~forbidden_E).sum()
    share_T = torch.ceil(mean_experts * size_T.double() / allowed)
    rank_T = torch.arange(len(group_T), device=group_T.device) - start_T
    best_T1 = (rank_T < share_T).unsqueeze(1)
    taken_TE = torch.empty_like(scores_TE, dtype=torch.bool)
    taken_TE.scatter_(0, by_score_TE.gather(0, order_TE), best_T1.expand_as(taken_TE))
    return taken_TE if forbidden_E is None else taken_TE & ~forbidden_E


def _taken_first(probs_TE: Tensor, taken_TE: Tensor) -> Tensor:
    """Experts in order: the most probable, then those that took the token, then the others, each by probability."""
    key_TE = probs_TE + taken_TE
    key_TE.scatter_(1, probs_TE.argmax(dim=1, keepdim=True), torch.inf)
    return key_TE.argsort(dim=1, descending=True, stable=True)
