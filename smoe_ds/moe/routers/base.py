"""BASE layers: balanced assignment in training."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from smoe_ds.moe.auction import balanced_assignment
from smoe_ds.moe.gate import gate_logits
from smoe_ds.moe.routers.router import Router, fixed_routing, without
from smoe_ds.moe.routing import Routing, RoutingContext


class BaseRouter(Router):
    """One expert, its output weighted by the sigmoid of the token's score for it, through which alone the gate learns.

    In training the host looks at the auction every few rounds, which on a GPU is a wait more; no rank waits for
    another there.

    Source: Lewis et al., arXiv 2103.16716, 2.2 and 3; their ``alpha f(h) + (1 - alpha) h`` with ``f(h) = h + FFN(h)``
    is the residual block's ``h + alpha FFN(h)``.
    """

    def forward(self, h_TD: Tensor, gate_ED: Tensor | None, context: RoutingContext) -> Routing:
        assert gate_ED is not None
        scores_TE = gate_logits(h_TD, gate_ED)
        with torch.no_grad():
            if context.training:
                expert_T = balanced_assignment(scores_TE, context.forbidden_E)
            else:
                expert_T = without(scores_TE, context.forbidden_E).argmax(dim=1)
        routing = fixed_routing(expert_T, self.visible, h_TD)
        return replace(routing, weights_TK=torch.sigmoid(scores_TE.gather(1, expert_T.unsqueeze(1))))
