"""The top-K softmax gate."""

from __future__ import annotations

from torch import Tensor

from smoe_ds.moe.gate import choose, normalised_weights
from smoe_ds.moe.routers.router import biased, fixed_routing, without
from smoe_ds.moe.routers.softmax import SoftmaxRouter
from smoe_ds.moe.routing import Routing, RoutingContext


class TopKRouter(SoftmaxRouter):
    """The K most probable experts; all but the first may be drawn in training (Eq. 4-6; GShard, arXiv 2006.16668).

    Attributes:
        only_place: if set, a token takes the expert at this place of its order alone, the first being 1, with weight 1:
            the weak routing of `smoe_ds.decode.contrast`.
    """

    only_place: int | None = None

    def forward(self, h_TD: Tensor, gate_ED: Tensor | None, context: RoutingContext) -> Routing:
        assert gate_ED is not None
        gated = self.gate(h_TD, gate_ED, context)
        scores_TE = biased(gated.probs_TE, self.block.bias_balancing, context.bias_steps_E)
        if context.forbidden_E is not None and context.bias_steps_E is not None:
            scores_TE = without(scores_TE, context.forbidden_E)
        if self.only_place is not None:
            place = min(self.only_place, self.visible)
            return fixed_routing(choose(scores_TE, place, sample=False)[:, place - 1], self.visible, h_TD)
        sample = context.training and self.block.second_expert == "sample"
        expert_TK = choose(scores_TE, self.block.top_k, sample)
        weights_TK = gated.probs_TE.gather(1, expert_TK)
        by_probability = self.block.capacity_order == "probability"
        return Routing(
            expert_TK,
            weights_TK,
            gated.sums,
            priority_T=weights_TK[:, 0].detach() if by_probability else None,
        )

    def weights(self, routing: Routing, kept_TK: Tensor | None) -> Tensor:
        return normalised_weights(routing.weights_TK, kept_TK, self.block.combine_weights)
