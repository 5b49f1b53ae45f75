"""DynMoE's gate: a token takes every expert whose threshold it exceeds."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoe_ds.config.block import BlockSettings
from smoe_ds.config.routers.dynamic import Dynamic
from smoe_ds.moe.gate import gate_logits
from smoe_ds.moe.routers.dynamic_pool import ExpertPool, PoolState, empty_records
from smoe_ds.moe.routers.router import Router, without, z_sum
from smoe_ds.moe.routing import GateSums, Routing, RoutingContext
from smoe_ds.moe.seeding import derive_seed


class DynamicRouter(Router):
    """``s = sigmoid(cos(h, W_e))``; expert e is taken if ``s > sigmoid(G_e)``; y is the mean of those taken.

    The gradient passes the sign as if it were the identity, so an expert's vector and threshold learn from the tokens
    that take it. A token that takes none gets nothing in training, and the expert with the largest s at evaluation;
    that one leads it to the next stratum, otherwise the one furthest above its threshold.

    Attributes:
        weight: the experts' vectors W [E, D].
        threshold: G [E].
        active: 1 where an expert is on [E], int64.
        position: steps taken in the cycle [1], int64.
        records: what was recorded in it, see :mod:`smoe_ds.moe.routers.dynamic_pool`.

    Source: arXiv 2405.14297, Section 3. The number of experts taken, which y is divided by, passes no gradient, as in
    the authors' code.
    """

    active: Tensor
    position: Tensor
    records: Tensor

    def __init__(self, block: BlockSettings, d_model: int, visible: int) -> None:
        super().__init__(block, d_model, visible)
        self.settings: Dynamic = block.router
        self.weight = nn.Parameter(torch.empty(visible, d_model))
        self.threshold = nn.Parameter(torch.empty(visible))
        self.register_buffer("active", torch.zeros(visible, dtype=torch.long))
        self.register_buffer("position", torch.zeros(1, dtype=torch.long))
        self.register_buffer("records", empty_records(visible, d_model))

    def initialize(self, *name: object) -> None:
        if self.weight.is_meta:
            return
        generator = torch.Generator().manual_seed(derive_seed(*name, "weight"))
        values = torch.empty(self.weight.shape, dtype=torch.float32)
        torch.nn.init.orthogonal_(values, generator=generator)
        number = self.settings.experts_on(self.visible)
        with torch.no_grad():
            self.weight.copy_(values)
            self.threshold.zero_()
            self.active[[place * self.visible // number for place in range(number)]] = 1

    def adaptive(self) -> ExpertPool | None:
        if not self.settings.cycle:
            return None
        state = PoolState(self.weight, self.threshold, self.active, self.position, self.records)
        return ExpertPool(self.settings, state)

    def forward(self, h_TD: Tensor, gate_ED: Tensor | None, context: RoutingContext) -> Routing:
        wide_TD = h_TD.to(torch.promote_types(h_TD.dtype, torch.float32))
        cosine_TE = gate_logits(F.normalize(wide_TD, dim=1), F.normalize(self.weight.to(wide_TD.dtype), dim=1))
        off_E = self.active == 0
        barred_E = off_E if context.forbidden_E is None else off_E | context.forbidden_E
        score_TE = torch.sigmoid(cosine_TE)
        margin_TE = score_TE - torch.sigmoid(self.threshold.to(wide_TD.dtype))
        above_TE = torch.relu(margin_TE).masked_fill(barred_E, 0.0)
        taken_TE = above_TE.detach() > 0
        gate_TE = above_TE - above_TE.detach() + taken_TE  # the sign, and its gradient that of the identity
        number_T1 = taken_TE.sum(1, keepdim=True)
        share_TE = gate_TE / number_T1.clamp(min=1)
        lost_T1 = number_T1 == 0
        with torch.no_grad():
            order_TE = torch.where(lost_T1, without(score_TE, off_E), without(margin_TE, barred_E))
            expert_TK = order_TE.sort(dim=1, descending=True, stable=True).indices
        weights_TK, chosen_TK = share_TE.gather(1, expert_TK), taken_TE.gather(1, expert_TK)
        if not context.training:
            best_TK = F.pad(lost_T1, (0, self.visible - 1))
            weights_TK, chosen_TK = weights_TK + best_TK, chosen_TK | best_TK
        sums = GateSums(
            share_TE.sum(0),
            number_T1.clamp(min=1).to(wide_TD.dtype).log().sum(),
            z_sum(without(cosine_TE, off_E)),
            losses=self._losses(gate_TE),
            records=self._lost(wide_TD.detach(), lost_T1, context),
        )
        return Routing(expert_TK, weights_TK, sums, chosen_TK=chosen_TK)

    def _lost(self, h_TD: Tensor, lost_T1: Tensor, context: RoutingContext) -> Tensor | None:
        """Number and sum of the tokens that take no expert [1 + D]; none counts where experts were forbidden."""
        if not (context.training and self.settings.cycle):
            return None
        lost_T1 = lost_T1.to(h_TD.dtype)
        if context.forbidden_E is not None:
            lost_T1 = torch.zeros_like(lost_T1)
        return torch.cat([lost_T1.sum().view(1), (lost_T1.t() @ h_TD).view(-1)])

    def _losses(self, gate_TE: Tensor) -> dict[str, Tensor]:
        """Sums over tokens for the losses; those of the gate itself count once for each token."""
        num_tokens, settings, sums = gate_TE.shape[0], self.settings, {}
        weight_ED = self.weight.to(gate_TE.dtype)
        if settings.diversity_weight:
            sums["diversity_loss"] = diversity(weight_ED, self.active) * num_tokens
        if settings.simplicity_weight:
            sums["simplicity_loss"] = weight_ED.norm(dim=1).mean() * num_tokens
        if settings.efficiency_weight:
            sums["efficiency_loss"] = gate_TE.mean(1).sum()
        return sums


def diversity(weight_ED: Tensor, active_E: Tensor) -> Tensor:
    """Frobenius norm of ``Wn Wn^T - I`` over the experts that are on, Wn the vectors at length 1; 0-dim."""
    unit_ED = F.normalize(weight_ED, dim=1) * active_E.unsqueeze(1)
    return (unit_ED @ unit_ED.t() - torch.diag(active_E)).norm()
