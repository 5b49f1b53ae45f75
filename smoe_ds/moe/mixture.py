"""A mixture of experts of one stratum: router, capacity, dispatch and weighted sum; no norm, no residual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from smoe_ds.config.block import BlockSettings
from smoe_ds.errors import NonFiniteError
from smoe_ds.moe.capacity import RowOrder, count_values, expert_capacity, order_rows
from smoe_ds.moe.checks import check_num_tokens
from smoe_ds.moe.common import Experts, SharedPart
from smoe_ds.moe.dispatch import Dispatcher, RowCounts
from smoe_ds.moe.expert_backend_here import backend_here
from smoe_ds.moe.experts import ExpertFFN, ReadyFFN, apply_experts
from smoe_ds.moe.experts_grouped import apply_experts_grouped
from smoe_ds.moe.experts_lean import mix_experts
from smoe_ds.moe.inference import mix_choices
from smoe_ds.moe.placement import Placement
from smoe_ds.moe.routers.router import Router
from smoe_ds.moe.routing import GateSums, Routing, RoutingContext
from smoe_ds.moe.rows import RowIndex, rows_of_tokens, sum_by_token
from smoe_ds.moe.stats import StratumStats


@dataclass(frozen=True)
class Mixed:
    """What a mixture made of the tokens of its stratum.

    Attributes:
        y_TD: the weighted sum of each token's experts.
        after_T: the stratum that each token goes on to; the number of strata where it is done.
        arriving: tokens that go on to each stratum, on the host.
        stats: what the routing did.
    """

    y_TD: Tensor
    after_T: Tensor
    arriving: list[int]
    stats: StratumStats


class Mixture(nn.Module):
    """The mixture of one stratum. Experts and gates are the block's: a later stratum's experts belong to several.

    Args:
        block: the settings of the block.
        placement: its strata, and where their experts lie.
        stratum: number of this one.
        d_model: width D.
        widths: of all experts of the block, F each.
        dropout: of the experts' outputs.
        ep_rank: this rank's number in its expert-parallel group.
        name: of the block, for messages.
    """

    slot_of_expert: Tensor
    stratum_after: Tensor
    is_remote: Tensor
    widths: Tensor

    def __init__(
        self,
        block: BlockSettings,
        placement: Placement,
        stratum: int,
        *,
        d_model: int,
        widths: Sequence[int],
        dropout: float,
        ep_rank: int,
        name: str,
    ) -> None:
        super().__init__()
        self.block = block
        self.placement = placement
        self.stratum = stratum
        self.dropout = dropout
        self.ep_rank = ep_rank
        self.name = name
        self.check_finite = True
        visible = placement.visible_experts(stratum)
        self.local = placement.local_experts(ep_rank, stratum)
        self.experts_per_rank = [len(placement.local_experts(r, stratum)) for r in range(placement.ep_size)]
        self.router: Router = block.router.build(block, d_model, len(visible))
        self.next_stratum = [placement.stratum_of(e) + 1 for e in visible]
        order = placement.exchange_order(stratum, ep_rank, block.exchange_chunks)
        tables = {
            "slot_of_expert": torch.tensor([order.index(e) for e in visible]),
            "stratum_after": torch.tensor(self.next_stratum),
            "is_remote": torch.tensor([e % placement.ep_size != ep_rank for e in visible]),
        }
        if block.uneven:
            tables["widths"] = torch.tensor([widths[e] for e in visible])
        for table, values in tables.items():
            self.register_buffer(table, values, persistent=False)

    def forward(
        self,
        h_TD: Tensor,
        gate_ED: Tensor | None,
        experts: Experts,
        dispatcher: Dispatcher,
        context: RoutingContext,
        *,
        common: SharedPart | None = None,
        local_only: bool = False,
        entered: Tensor | None = None,
    ) -> Mixed:
        """The tokens of the stratum through their experts.

        Args:
            h_TD: normalised tokens [T, D].
            gate_ED: weight of the stratum's gate; None where the router has none.
            experts: those of this rank, by their number in the block.
            dispatcher: brings rows to experts.
            context: what the router is told.
            common: what the experts share; None if nothing.
            local_only: choose among the experts of this rank, where these are enough.
            entered: what T has to be [1], int64; checked with the copy to the host that is made anyway.

        Raises:
            ValueError: ``entered`` is another number.
            NonFiniteError: NaN or infinite numbers, on all ranks of the group.
        """
        enough = self.experts_per_rank[self.ep_rank] >= self.block.router.fewest_experts(self.block)
        if local_only and enough:
            context = replace(context, forbidden_E=self.is_remote)
        routing: Routing = self.router(h_TD, gate_ED, context)
        assert routing.sums is not None
        limited = self.training and "capacity_factor" in self.block.router.heeds
        capacity = expert_capacity(h_TD.shape[0], self.router.visible, self.block.capacity_factor if limited else None)
        priority_T = None if capacity is None else routing.priority_T
        order = order_rows(routing.expert_TK, self.slot_of_expert, capacity, priority_T, routing.chosen_TK)
        after_T = self.stratum_after[routing.expert_TK[:, 0]]
        counts = self._exchange_counts(h_TD, routing, routing.sums, order, after_T, dispatcher, entered)
        num_strata = len(self.placement.strata)
        wanted, most = routing.expert_TK.numel(), None
        if routing.chosen_TK is not None:
            wanted, most = counts.extra[num_strata + 1 : num_strata + 3]
        index = order.row_index(counts.num_rows, most)
        kept_TK = None if index.missing_KT is None else ~index.missing_KT.t()
        weights_TK, keep_PD = self._weights(routing.first(index.num_choices), kept_TK, h_TD.shape[1])
        inputs_TD = h_TD if common is None else common.inputs(h_TD)
        y_TD = self._mixed(inputs_TD, experts, dispatcher, weights_TK, index, counts, keep_PD)
        stats = StratumStats(
            num_tokens=h_TD.shape[0],
            prob_sum_E=routing.sums.probs_E,
            requested_KE=order.requested_KE,
            num_dropped=wanted - counts.num_rows,
            entropy_sum=routing.sums.entropy,
            z_sum=routing.sums.z,
            balanced=self.block.router.balanced,
            uses_load_balancing=self.block.router.uses_load_balancing,
            sums=routing.sums.losses,
            records=routing.sums.records,
            widths_E=self.widths if self.block.uneven else None,
        )
        return Mixed(y_TD, after_T, counts.extra[: num_strata + 1], stats)

    def infer(
        self,
        h_TD: Tensor,
        gate_ED: Tensor | None,
        experts: Experts,
        context: RoutingContext,
        common: SharedPart | None = None,
    ) -> tuple[Tensor, list[int]]:
        """The same in evaluation on one process, where nobody asks what the routing did: the host sorts the choices.

        Args:
            h_TD: normalised tokens [T, D], at least one.
            gate_ED: weight of the stratum's gate; None where the router has none.
            experts: all of them, by their number in the block.
            context: what the router is told.
            common: what the experts share; None if nothing.

        Returns:
            The weighted sum of each token's experts [T, D], and the stratum that each token goes on to.

        Raises:
            NonFiniteError: NaN or infinite numbers.
        """
        if self.check_finite and not h_TD.isfinite().all():
            raise self._not_finite("")
        routing: Routing = self.router(h_TD, gate_ED, context)
        if routing.chosen_TK is not None:
            routing = routing.first(int(_wanted_and_most(routing.chosen_TK)[1]))
        weights_TK, _ = self._weights(routing, routing.chosen_TK, h_TD.shape[1])
        if self.check_finite and not weights_TK.isfinite().all():  # a gate that holds NaN
            raise self._not_finite("")
        expert_P = routing.expert_TK.flatten().tolist()
        own = [experts[str(e)] for e in self.local]
        inputs_TD = h_TD if common is None else common.inputs(h_TD)
        y_TD = mix_choices(own, inputs_TD, weights_TK, expert_P, routing.chosen_TK)
        return y_TD, [self.next_stratum[e] for e in expert_P[:: weights_TK.shape[1]]]

    def _exchange_counts(
        self,
        h_TD: Tensor,
        routing: Routing,
        sums: GateSums,
        order: RowOrder,
        after_T: Tensor,
        dispatcher: Dispatcher,
        entered: Tensor | None,
    ) -> RowCounts:
        """Row counts on the host; the extra ones are the tokens that go on to each stratum; where tokens take any
        number of experts, the rows wanted and the most of a token; and ``entered``."""
        alarm = torch.zeros(1, dtype=torch.long, device=h_TD.device)
        if self.check_finite:
            reads_tokens = self.block.router.balanced and not self.block.router.needs
            witness = (
                sums.probs_E.sum() if reads_tokens else h_TD.sum(dtype=torch.promote_types(h_TD.dtype, torch.float32))
            )
            alarm = (~torch.isfinite(witness.detach())).long().view(1)
        extra = [count_values(after_T, len(self.placement.strata) + 1)]
        if routing.chosen_TK is not None:
            extra.append(_wanted_and_most(routing.chosen_TK))
        if entered is not None:
            extra.append(entered)
        counts = dispatcher.exchange_counts(order.counts, self.experts_per_rank, alarm, torch.cat(extra))
        if entered is not None:
            check_num_tokens(self.name, h_TD.shape[0], counts.extra[-1], self.block.heads)
        if any(counts.alarms):
            ranks = ", ".join(str(rank) for rank, raised in enumerate(counts.alarms) if raised)
            raise self._not_finite(f" on rank {ranks} of its expert-parallel group" if len(counts.alarms) > 1 else "")
        return counts

    def _not_finite(self, where: str) -> NonFiniteError:
        return NonFiniteError(
            f"{self.name}: the input of stratum {self.stratum} holds NaN or infinite numbers{where}; look for the "
            "first layer that makes them, or lower the learning rate (check_finite=False lets them pass)"
        )

    def _mixed(
        self,
        h_TD: Tensor,
        all_experts: Experts,
        dispatcher: Dispatcher,
        weights_TK: Tensor,
        index: RowIndex,
        counts: RowCounts,
        keep_PD: Tensor | None,
    ) -> Tensor:
        """The weighted sum of the chosen experts' outputs [T, D]."""
        experts = [all_experts[str(e)] for e in self.local]
        ep_size = self.placement.ep_size
        backend = backend_here(self.block, list(all_experts.values()), h_TD.device, h_TD.dtype, ep_size=ep_size)
        if backend == "lean":
            built_in = cast(list[ExpertFFN | ReadyFFN], experts)
            return mix_experts(built_in, h_TD, weights_TK, index, counts.per_expert, keep_PD)

        def run(first: int, rows: Tensor, counts: list[int]) -> Tensor:
            some = experts[first : first + len(counts)]
            if backend == "grouped" and rows.shape[0]:
                return apply_experts_grouped(cast(list[ExpertFFN | ReadyFFN], some), rows, counts)
            return apply_experts(some, rows, counts)

        rows_RD = rows_of_tokens(h_TD, index)
        outputs_RD = dispatcher.through_experts(rows_RD, counts, self.experts_per_rank, run)
        return sum_by_token(outputs_RD, weights_TK, index, keep_PD)

    def _weights(self, routing: Routing, kept_TK: Tensor | None, d_model: int) -> tuple[Tensor, Tensor | None]:
        """Weights of the chosen experts' outputs, and the dropout mask; noise is drawn by token, wherever the experts
        are, so that every topology draws the same."""
        weights_TK = self.router.weights(routing, kept_TK)
        masking = self.block.expert_output_masking
        if masking and self.training:
            weights_TK = weights_TK * torch.empty_like(weights_TK).bernoulli_(1 - masking)
        elif masking:
            weights_TK = weights_TK * (1 - masking)
        if not (self.dropout and self.training):
            return weights_TK, None
        keep = torch.empty(weights_TK.numel(), d_model, dtype=torch.bool, device=weights_TK.device)
        return weights_TK / (1 - self.dropout), keep.bernoulli_(1 - self.dropout)


def _wanted_and_most(chosen_TK: Tensor) -> Tensor:
    """Choices that are taken, and up to which one a token takes any, at least 1; int64 [2]."""
    number_K = torch.arange(1, chosen_TK.shape[1] + 1, device=chosen_TK.device)
    most = (chosen_TK * number_K).amax().clamp(min=1) if chosen_TK.numel() else number_K.new_ones(())
    return torch.stack([chosen_TK.sum(), most])
