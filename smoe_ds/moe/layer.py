"""The stratified mixture-of-experts block: LayerNorm, gates, experts and residual, one pass per stratum."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoe_ds.moe.dispatch import Dispatcher, LocalDispatcher, RowCounts
from smoe_ds.moe.experts import ExpertFFN, apply_experts
from smoe_ds.moe.gate import choose, combine_weights, gate_probs
from smoe_ds.moe.placement import Placement
from smoe_ds.moe.routing import RowOrder, count_values, expert_capacity, order_rows
from smoe_ds.moe.seeding import uniform_, xavier_bound
from smoe_ds.moe.stats import BlockStats, StratumStats


class StratifiedMoE(nn.Module):
    """Stratified mixture of experts with its own LayerNorms and residual: ``x -> (y, stats)``.

    A token starts in stratum 0. In stratum i its gate sees the experts of strata i and later; the token gets the
    weighted output of its top-K experts added, and goes on to the stratum after its first choice's, until none is left.
    ``strata`` of one entry is a plain mixture of experts; with ``top_k=1`` it is a Switch layer.

    Args:
        d_model: width D.
        d_ffn: inner width F of the built-in experts.
        strata: experts per stratum, first stratum first.
        top_k: experts per token and stratum, 1 or 2.
        dropout: dropout on the experts' outputs.
        norm: ``paper``: the residual is the input. ``released``: after the first stratum the residual is the normalised
            input, and the block's output is normalised (what the authors' code does).
        weights: see :func:`smoe_ds.moe.gate.combine_weights`.
        second_expert: ``sample`` draws the second expert in training; ``argmax`` never does. Evaluation never draws.
        capacity_factor: an expert takes at most ``ceil(capacity_factor * T_i / E_i)`` rows of a training batch in
            stratum i, first choices before second, in position order. None: no limit. Evaluation never drops.
        ep_size: ranks that share one copy of the experts.
        ep_rank: this rank's number among them; it holds the experts e with ``e % ep_size == ep_rank``.
        seed: seed of the initial weights; with ``name`` it decides them whatever the ``ep_size``.
        name: the block's name in its model; blocks with different names start with different weights.
        expert: makes one expert, any module [n, D] -> [n, D]; default :class:`ExpertFFN`. A custom expert initialises
            itself.

    Source: Eq. 4-11 of arXiv 2305.02176.
    """

    def __init__(
        self,
        d_model: int,
        d_ffn: int,
        strata: Sequence[int],
        top_k: int = 2,
        *,
        dropout: float = 0.0,
        norm: str = "paper",
        weights: str = "after_drop",
        second_expert: str = "sample",
        capacity_factor: float | None = 2.0,
        ep_size: int = 1,
        ep_rank: int = 0,
        seed: int = 1,
        name: str = "moe",
        expert: Callable[[], nn.Module] | None = None,
    ) -> None:
        # Not super(): a subclass may also inherit from DeepSpeed's MoE, whose __init__ builds experts of its own.
        nn.Module.__init__(self)
        self.placement = Placement(tuple(strata), ep_size)
        self.top_k = top_k
        self.dropout = dropout
        self.norm = norm
        self.weights = weights
        self.second_expert = second_expert
        self.capacity_factor = capacity_factor
        self.ep_rank = ep_rank
        self.dispatcher: Dispatcher = LocalDispatcher()

        num_strata = len(strata)
        visible = [self.placement.num_experts - self.placement.first_expert(i) for i in range(num_strata)]
        self.norms = nn.ModuleList(nn.LayerNorm(d_model) for _ in range(num_strata))
        self.gates = nn.ParameterList(nn.Parameter(torch.empty(n, d_model)) for n in visible)
        self.output_norm = nn.LayerNorm(d_model) if norm == "released" else None
        make_expert = expert or (lambda: ExpertFFN(d_model, d_ffn))
        self.experts = nn.ModuleDict({str(e): make_expert() for e in self.placement.local_experts(ep_rank)})
        self._initialize(seed, name)
        self._register_routing_tables()

    def _initialize(self, seed: int, name: str) -> None:
        for i, gate in enumerate(self.gates):
            uniform_(gate, xavier_bound(gate.shape[1], gate.shape[0]), seed, name, "gates", i)
        for number, expert in self.experts.items():
            if isinstance(expert, ExpertFFN):
                expert.initialize(seed, name, "experts", number)

    def _register_routing_tables(self) -> None:
        """Constant tables of each stratum, as buffers so that they move with the module."""
        placement = self.placement
        self.experts_per_rank = [
            [len(placement.local_experts(rank, i)) for rank in range(placement.ep_size)]
            for i in range(len(placement.strata))
        ]
        for i in range(len(placement.strata)):
            order = placement.exchange_order(i)
            first = placement.first_expert(i)
            slots = torch.tensor([order.index(e) for e in range(first, placement.num_experts)])
            next_stratum = torch.tensor([placement.stratum_of(e) + 1 for e in range(first, placement.num_experts)])
            self.register_buffer(f"slot_of_expert_{i}", slots, persistent=False)
            self.register_buffer(f"stratum_after_{i}", next_stratum, persistent=False)

    def forward(self, x: Tensor, padding_mask: Tensor | None = None) -> tuple[Tensor, BlockStats]:
        """Route every position that is not padding through the strata.

        Args:
            x: [..., D].
            padding_mask: True where a position is padding [...]; such positions are neither routed nor counted.

        Returns:
            The block's output in the shape of ``x``, residual included (padding positions pass unrouted), and what the
            routing did.
        """
        shape = x.shape
        x_ND = x.reshape(-1, shape[-1])
        num_strata = len(self.placement.strata)
        next_stratum_N = torch.zeros(x_ND.shape[0], dtype=torch.long, device=x.device)
        num_tokens = x_ND.shape[0]
        if padding_mask is not None:
            next_stratum_N.masked_fill_(padding_mask.reshape(-1), num_strata)
            num_tokens = int((next_stratum_N == 0).sum())
        tokens_in = [num_tokens] + [0] * num_strata
        passes_N = torch.zeros_like(next_stratum_N)
        strata = []
        for i in range(num_strata):
            index_T = torch.nonzero_static(next_stratum_N == i, size=tokens_in[i]).squeeze(1)
            x_ND, after_T, counts, stats = self._stratum(i, x_ND, index_T)
            next_stratum_N = next_stratum_N.index_copy(0, index_T, after_T)
            passes_N = passes_N.index_add(0, index_T, torch.ones_like(index_T))
            tokens_in = [waiting + new for waiting, new in zip(tokens_in, counts.extra, strict=True)]
            strata.append(stats)
        if self.output_norm is not None:
            x_ND = self.output_norm(x_ND)
        return x_ND.reshape(shape), BlockStats(strata, passes_N.reshape(shape[:-1]))

    def _stratum(self, i: int, x_ND: Tensor, index_T: Tensor) -> tuple[Tensor, Tensor, RowCounts, StratumStats]:
        """One pass: new x, next stratum by token [T], counts (extra: tokens per next stratum), statistics."""
        x_TD = x_ND.index_select(0, index_T)
        h_TD = self.norms[i](x_TD)
        probs_TE = gate_probs(h_TD, self.gates[i])
        choices = choose(probs_TE, self.top_k, self.training and self.second_expert == "sample")
        capacity_factor = self.capacity_factor if self.training else None
        capacity = expert_capacity(index_T.numel(), probs_TE.shape[1], capacity_factor)
        order = order_rows(choices.expert_TK, getattr(self, f"slot_of_expert_{i}"), capacity)
        after_T = getattr(self, f"stratum_after_{i}")[choices.expert_TK[:, 0]]

        rows_TKD, counts = self._apply_experts(i, h_TD, order, after_T)
        rows_TKD = F.dropout(rows_TKD, self.dropout, self.training)
        weights_TK = combine_weights(probs_TE.gather(1, choices.expert_TK), order.kept_TK, self.weights)
        y_TD = (rows_TKD.to(weights_TK.dtype) * weights_TK.unsqueeze(2)).sum(dim=1).to(x_ND.dtype)
        if self.norm == "released" and i > 0:
            x_ND = x_ND.index_copy(0, index_T, h_TD + y_TD)
        else:
            x_ND = x_ND.index_add(0, index_T, y_TD)
        stats = StratumStats(
            num_tokens=index_T.numel(),
            prob_sum_E=probs_TE.sum(0),
            requested_KE=order.requested_KE,
            num_dropped=choices.expert_TK.numel() - sum(counts.sent),
            entropy_sum=torch.special.entr(probs_TE.detach()).sum(),
        )
        return x_ND, after_T, counts, stats

    def _apply_experts(self, i: int, h_TD: Tensor, order: RowOrder, after_T: Tensor) -> tuple[Tensor, RowCounts]:
        """The chosen experts' outputs by token and choice [T, K, D], zero where dropped; the counts."""
        num_tokens, num_choices = order.kept_TK.shape
        after_counts = count_values(after_T, len(self.placement.strata) + 1)
        per_rank = self.experts_per_rank[i]
        counts = self.dispatcher.exchange_counts(order.counts, per_rank, after_counts)
        flat_R = order.flat.index_select(0, torch.nonzero_static(order.kept, size=sum(counts.sent)).squeeze(1))
        inputs = self.dispatcher.to_experts(h_TD, flat_R % max(num_tokens, 1), counts, per_rank)
        experts = [self.experts[str(e)] for e in self.placement.local_experts(self.ep_rank, i)]
        outputs = apply_experts(experts, inputs, counts.per_expert)
        rows_RD = self.dispatcher.from_experts(outputs, counts, per_rank)
        rows = rows_RD.new_zeros((num_choices * num_tokens, rows_RD.shape[1])).index_copy(0, flat_R, rows_RD)
        rows_TKD = rows.view(num_choices, num_tokens, rows_RD.shape[1]).transpose(0, 1)
        return rows_TKD, counts
