"""Stochastic experts: in training a micro-batch draws one expert for all of its tokens."""

from __future__ import annotations

import torch
from torch import Tensor

from smoe_ds.config.block import BlockSettings
from smoe_ds.config.routers.random import Random
from smoe_ds.moe.routers.router import Router, fixed_routing
from smoe_ds.moe.routing import GateSums, Routing, RoutingContext
from smoe_ds.moe.seeding import derive_seed


class RandomRouter(Router):
    """One expert with weight 1, drawn among the visible ones for each block, stratum and forward pass.

    Every micro-batch draws its own, also those that several ranks run at the same moment: the draw is a function of
    the run's seed and the number of the micro-batch, so that results do not depend on the number of ranks. No rank
    waits for another because of it, since any number of rows may go to an expert.

    At evaluation nothing is drawn. The fixed expert is a function of the block's name and the stratum.

    Source: Zuo et al., arXiv 2110.04260; there evaluation draws too.
    """

    def __init__(self, block: BlockSettings, d_model: int, visible: int) -> None:
        super().__init__(block, d_model, visible)
        self.settings: Random = block.router
        self.fixed_expert = 0

    def initialize(self, *name: object) -> None:
        _, *place = name  # without the seed: weights may come from a run with another one
        self.fixed_expert = derive_seed(*place, "fixed expert") % self.visible

    def forward(self, h_TD: Tensor, gate_ED: Tensor | None, context: RoutingContext) -> Routing:
        num_tokens = h_TD.shape[0]
        if context.training:
            expert_T = self._drawn(h_TD.device, context.forbidden_E).expand(num_tokens)
        elif self.settings.at_evaluation == "fixed":
            expert_T = torch.full((num_tokens,), self.fixed_expert, device=h_TD.device)
        else:
            return self._all(h_TD)
        return fixed_routing(expert_T, self.visible, h_TD)

    def _drawn(self, device: torch.device, forbidden_E: Tensor | None) -> Tensor:
        """The expert of this pass, a 0-dim tensor that stays on the device."""
        score_E = torch.rand(self.visible, device=device)
        if forbidden_E is not None:
            score_E = score_E.masked_fill(forbidden_E, -1.0)
        return score_E.argmax()

    def _all(self, h_TD: Tensor) -> Routing:
        """Every expert with weight 1/E. The first one is of the stratum itself, so the token goes on to the next."""
        num_tokens = h_TD.shape[0]
        dtype = torch.promote_types(h_TD.dtype, torch.float32)
        expert_TK = torch.arange(self.visible, device=h_TD.device).expand(num_tokens, -1)
        weights_TK = h_TD.new_full((num_tokens, self.visible), 1 / self.visible, dtype=dtype)
        nothing = h_TD.new_zeros((), dtype=dtype)
        return Routing(expert_TK, weights_TK, GateSums(weights_TK.sum(0), nothing, nothing))
