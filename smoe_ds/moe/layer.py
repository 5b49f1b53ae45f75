"""The stratified mixture-of-experts block: LayerNorm, gates, experts and residual, one pass per stratum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoe_ds.errors import LaunchError, NonFiniteError
from smoe_ds.moe.capacity import RowOrder, count_values, expert_capacity, order_rows
from smoe_ds.moe.checks import check_ep_rank, check_input, check_settings, check_sizes, make_experts
from smoe_ds.moe.dispatch import Dispatcher, LocalDispatcher, RowCounts
from smoe_ds.moe.expert_backend_here import backend_here
from smoe_ds.moe.experts import ExpertFFN, apply_experts
from smoe_ds.moe.experts_grouped import apply_experts_grouped
from smoe_ds.moe.experts_lean import mix_experts
from smoe_ds.moe.gate import choose, gate_logits, jittered, normalised_weights
from smoe_ds.moe.placement import Placement
from smoe_ds.moe.rows import RowIndex, rows_of_tokens, sum_by_token
from smoe_ds.moe.seeding import uniform_, xavier_bound
from smoe_ds.moe.stats import BlockStats, StratumStats


class StratifiedMoE(nn.Module):
    """Stratified mixture of experts with its own LayerNorms and residual: ``x -> (y, stats)``.

    A token starts in stratum 0. In stratum i its gate sees the experts of strata i and later; the token gets the
    weighted output of its top-K experts added, and goes on to the stratum after its first choice's, until none is left.
    ``strata`` of one entry is a plain mixture of experts; with ``top_k=1`` it is a Switch layer (arXiv 2101.03961).

    With ``ep_size`` above 1 the experts are spread over that many ranks: :func:`smoe_ds.moe.stratified_moe` builds the
    layer that ``deepspeed.initialize`` knows how to handle.

    Args:
        d_model: width D.
        d_ffn: inner width F of the built-in experts.
        strata: experts per stratum, first stratum first.
        top_k: experts per token and stratum, K.
        activation: of the built-in experts: ``relu`` (as in the paper), ``gelu`` or ``swiglu``.
        dropout: dropout on the experts' outputs.
        norm: ``paper``: the residual is the input. ``released``: after the first stratum the residual is the normalised
            input, and the block's output is normalised (what the authors' code does).
        combine_weights: ``after_drop``, ``before_drop`` or ``raw``: see :func:`smoe_ds.moe.gate.normalised_weights`.
        second_expert: ``sample`` draws all choices but the first in training (GShard, arXiv 2006.16668, 2.2);
            ``argmax`` never does. Evaluation never draws.
        capacity_factor: an expert takes at most ``ceil(capacity_factor * T_i / E_i)`` rows of a training batch in
            stratum i, first choices before second. None: no limit. Evaluation never drops.
        capacity_order: who goes first where an expert is full: ``position``, or ``probability`` of the first choice
            (batch-prioritised routing, arXiv 2106.05974, 4.1).
        stacked: every token passes all strata as plain mixtures of experts in a row; each gate sees its own stratum
            only, with no LayerNorm and no residual in between (the paper's baseline "Stacking MoE layers").
        expert_output_masking: share of (token, expert) outputs set to zero in training; evaluation scales all of them
            by the rest (EOM, NLLB, arXiv 2207.04672, 6.2.1).
        shared_expert: one more expert that all tokens pass in the first stratum. ``add``: added to the routed ones
            (arXiv 2401.06066, 3.2). ``cmr``: a sigmoid gate g mixes ``g * routed + (1 - g) * shared`` (CMR, NLLB,
            6.2.2). Its budget loss is :func:`smoe_ds.moe.losses.cmr_budget_loss`.
        cmr_gate_dropout: share of tokens whose CMR gate is 0 in training.
        jitter: the gate's input is multiplied by U(1 - jitter, 1 + jitter) in training (arXiv 2101.03961, 2.2).
        gating_dropout: probability that a training batch leaves the gates aside (arXiv 2205.14336).
        gating_dropout_mode: ``skip``: such a batch passes the block unchanged ("gate-expert-drop"). ``local``: its
            tokens choose among the experts of their own rank ("gate-drop"), where these are at least K.
        bias_balancing: step of the balancing biases, see :mod:`smoe_ds.moe.balancing`; 0 for none.
        expert_backend: ``loop``, ``lean``, ``grouped`` or ``auto``, see
            :func:`smoe_ds.moe.expert_backends.choose_backend`.
        exchange_chunks: parts in which a rank's experts are computed, each while the rows of the others are under way
            to and from other ranks; 1: all at once. More than one pays where the network is slow.
        check_finite: raise where the input holds NaN or infinite numbers. Switch it off where a loss scaler is to skip
            such steps.
        ep_size: ranks that share one copy of the experts.
        ep_rank: this rank's number among them; it holds the experts e with ``e % ep_size == ep_rank``. The exchange is
            the caller's then: set ``dispatcher``.
        seed: seed of the initial weights; with ``name`` it decides them whatever the ``ep_size``.
        name: the block's name in its model; blocks with different names start with different weights.
        expert: makes one expert, any module [n, D] -> [n, D], n may be 0; default :class:`ExpertFFN`. A custom expert
            initialises itself.

    Raises:
        ValueError: an argument that cannot work, with the remedy.
        LaunchError: ``ep_size`` above 1 without ``ep_rank``.

    Source: Eq. 4-11 of arXiv 2305.02176; options as named above.
    """

    def __init__(
        self,
        d_model: int,
        d_ffn: int,
        strata: Sequence[int],
        top_k: int = 2,
        *,
        activation: str = "relu",
        dropout: float = 0.0,
        norm: str = "paper",
        combine_weights: str = "after_drop",
        second_expert: str = "sample",
        capacity_factor: float | None = 2.0,
        capacity_order: str = "position",
        stacked: bool = False,
        expert_output_masking: float = 0.0,
        shared_expert: str = "none",
        cmr_gate_dropout: float = 0.1,
        jitter: float = 0.0,
        gating_dropout: float = 0.0,
        gating_dropout_mode: str = "skip",
        bias_balancing: float = 0.0,
        expert_backend: str = "auto",
        exchange_chunks: int = 1,
        check_finite: bool = True,
        ep_size: int = 1,
        ep_rank: int | None = None,
        seed: int = 1,
        name: str = "moe",
        expert: Callable[[], nn.Module] | None = None,
    ) -> None:
        check_settings(locals())
        check_sizes(d_model, d_ffn, strata, top_k, ep_size, exchange_chunks, stacked)
        # Not super(): a subclass may also inherit from DeepSpeed's MoE, whose __init__ builds experts of its own.
        nn.Module.__init__(self)
        self.placement = Placement(tuple(strata), ep_size, stacked)
        self.d_model = d_model
        self.top_k = top_k
        self.dropout = dropout
        self.norm = norm
        self.combine_weights = combine_weights
        self.second_expert = second_expert
        self.capacity_factor = capacity_factor
        self.capacity_order = capacity_order
        self.stacked = stacked
        self.expert_output_masking = expert_output_masking
        self.shared_expert = shared_expert
        self.cmr_gate_dropout = cmr_gate_dropout
        self.jitter = jitter
        self.gating_dropout = gating_dropout
        self.gating_dropout_mode = gating_dropout_mode
        self.bias_balancing = bias_balancing
        self.expert_backend = expert_backend
        self.exchange_chunks = exchange_chunks
        self.check_finite = check_finite
        self.ep_rank = self._own_ep_rank(ep_size) if ep_rank is None else ep_rank
        check_ep_rank(self.ep_rank, ep_size)
        self.name = name
        self.dispatcher: Dispatcher = LocalDispatcher()

        num_strata = len(strata)
        visible = [len(self.placement.visible_experts(i)) for i in range(num_strata)]
        self.norms = nn.ModuleList(nn.LayerNorm(d_model) for _ in range(1 if stacked else num_strata))
        self.gates = nn.ParameterList(nn.Parameter(torch.empty(n, d_model)) for n in visible)
        self.output_norm = nn.LayerNorm(d_model) if norm == "released" else None
        make_expert = expert or (lambda: ExpertFFN(d_model, d_ffn, activation))
        local = self.placement.experts_on(self.ep_rank)
        made = make_experts(make_expert, len(local) + (shared_expert != "none"))
        self.experts = nn.ModuleDict({str(e): module for e, module in zip(local, made, strict=False)})
        self.shared = made[-1] if shared_expert != "none" else None
        self.cmr_gate = nn.Linear(d_model, 1) if shared_expert == "cmr" else None
        self._initialize(seed)
        self._register_routing_tables()
        if bias_balancing:
            for i, num_visible in enumerate(visible):
                self.register_buffer(f"balance_steps_{i}", torch.zeros(num_visible, dtype=torch.long))

    def _own_ep_rank(self, ep_size: int) -> int:
        """This rank's number where the caller gave none."""
        if ep_size > 1:
            raise LaunchError(
                f"{type(self).__name__} with ep_size {ep_size}: which experts are on this rank? Build the layer with "
                "smoe_ds.moe.stratified_moe(...), derive from smoe_ds.moe.deepspeed_layer.ExpertParallelMoE, or give "
                "ep_rank and set the layer's dispatcher"
            )
        return 0

    def _initialize(self, seed: int) -> None:
        for i, gate in enumerate(self.gates):
            uniform_(gate, xavier_bound(gate.shape[1], gate.shape[0]), seed, self.name, "gates", i)
        for number, expert in self.experts.items():
            if isinstance(expert, ExpertFFN):
                expert.initialize(seed, self.name, "experts", number)
        if isinstance(self.shared, ExpertFFN):
            self.shared.initialize(seed, self.name, "shared")
        if self.cmr_gate is not None:
            uniform_(self.cmr_gate.weight, xavier_bound(self.d_model, 1), seed, self.name, "cmr_gate")
            nn.init.zeros_(self.cmr_gate.bias)

    def _register_routing_tables(self) -> None:
        """Constant tables of each stratum, as buffers so that they move with the module."""
        placement = self.placement
        num_strata, ranks = len(placement.strata), range(placement.ep_size)
        self.experts_per_rank = [[len(placement.local_experts(r, i)) for r in ranks] for i in range(num_strata)]
        for i in range(num_strata):
            order, visible = (
                placement.exchange_order(i, self.ep_rank, self.exchange_chunks),
                placement.visible_experts(i),
            )
            tables = {
                "slot_of_expert": [order.index(e) for e in visible],
                "stratum_after": [placement.stratum_of(e) + 1 for e in visible],
                "is_remote": [int(e % placement.ep_size != self.ep_rank) for e in visible],
            }
            for name, values in tables.items():
                self.register_buffer(f"{name}_{i}", torch.tensor(values), persistent=False)

    def bias_steps(self) -> list[Tensor]:
        """The balancing bias of each gate's experts, in steps of ``bias_balancing``; empty without."""
        return [getattr(self, f"balance_steps_{i}") for i in range(len(self.gates))] if self.bias_balancing else []

    def forward(
        self, x: Tensor, padding_mask: Tensor | None = None, num_tokens: int | None = None
    ) -> tuple[Tensor, BlockStats]:
        """Routes every position that is not padding through the strata.

        Args:
            x: [..., D].
            padding_mask: True where a position is padding [...]; such positions are neither routed nor counted.
            num_tokens: positions that are no padding, if the caller knows: spares a wait for the device.

        Returns:
            The block's output in the shape of ``x``, residual included (padding positions pass unrouted), and what the
            routing did.

        Raises:
            ValueError: shapes that do not fit, a wrong ``num_tokens``.
            LaunchError: experts on other ranks, and no exchange with them yet.
            NonFiniteError: NaN or infinite numbers at a position that is no padding, on all ranks of the group.
        """
        check_input(x, padding_mask, num_tokens, self.d_model)
        if self.placement.ep_size > 1 and isinstance(self.dispatcher, LocalDispatcher):
            raise LaunchError(
                f"{self.name}: ep_size is {self.placement.ep_size}, but nothing exchanges rows yet; hand the model to "
                "deepspeed.initialize first, or set the layer's dispatcher"
            )
        x_ND = x.reshape(-1, self.d_model)
        num_strata = len(self.placement.strata)
        gates_aside = self.training and self.gating_dropout > 0 and float(torch.rand(())) < self.gating_dropout
        next_stratum_N, entering = self._entering(x_ND, padding_mask, num_tokens, gates_aside)
        waiting = [entering] + [0] * num_strata
        passes_N = torch.zeros_like(next_stratum_N)
        strata, cmr_gate_sum, h_TD = [], None, x_ND
        for i in range(num_strata):
            index_T = None
            if waiting[i] != x_ND.shape[0]:
                index_T = torch.nonzero_static(next_stratum_N == i, size=waiting[i], fill_value=0).squeeze(1)
            if i == 0 or not self.stacked:
                h_TD = self.norms[i](_take(x_ND, index_T))
            claimed = None if i or num_tokens is None else (next_stratum_N == 0).sum().view(1)
            y_TD, after_T, stats, arriving = self._mixture(i, h_TD, claimed, local_only=gates_aside)
            if i == 0 and self.shared is not None:
                y_TD, cmr_gate_sum = self._with_shared_expert(h_TD, y_TD)
            _put(next_stratum_N, index_T, after_T)
            _put(passes_N, index_T, _take(passes_N, index_T) + 1)
            waiting = [old + new for old, new in zip(waiting, arriving, strict=True)]
            strata.append(stats)
            if self.stacked and i < num_strata - 1:
                h_TD = y_TD
            else:
                x_ND = self._add(x_ND, index_T, h_TD if self.norm == "released" and i > 0 else None, y_TD)
        if self.output_norm is not None:
            x_ND = self.output_norm(x_ND)
        return x_ND.reshape(x.shape), BlockStats(strata, passes_N.reshape(x.shape[:-1]), cmr_gate_sum)

    def _entering(
        self, x_ND: Tensor, padding_mask: Tensor | None, num_tokens: int | None, gates_aside: bool
    ) -> tuple[Tensor, int]:
        """The stratum each position enters first [N], one beyond the last for none; how many enter the first."""
        num_strata = len(self.placement.strata)
        next_stratum_N = torch.zeros(x_ND.shape[0], dtype=torch.long, device=x_ND.device)
        if gates_aside and self.gating_dropout_mode == "skip":
            return next_stratum_N.fill_(num_strata), 0
        if padding_mask is None:
            return next_stratum_N, x_ND.shape[0]
        next_stratum_N.masked_fill_(padding_mask.reshape(-1), num_strata)
        return next_stratum_N, int((next_stratum_N == 0).sum()) if num_tokens is None else num_tokens

    def _add(self, x_ND: Tensor, index_T: Tensor | None, residual_TD: Tensor | None, y_TD: Tensor) -> Tensor:
        """x with y added at the tokens ``index_T`` (None: all), or with ``residual + y`` in their place."""
        y_TD = y_TD.to(x_ND.dtype)
        if residual_TD is not None and not self.stacked:
            y_TD = residual_TD.to(x_ND.dtype) + y_TD
            return y_TD if index_T is None else x_ND.index_copy(0, index_T, y_TD)
        return x_ND + y_TD if index_T is None else x_ND.index_add(0, index_T, y_TD)

    def _mixture(
        self, i: int, h_TD: Tensor, entered: Tensor | None, *, local_only: bool
    ) -> tuple[Tensor, Tensor, StratumStats, list[int]]:
        """One pass: output [T, D], next stratum by token [T], statistics, tokens that go on to each stratum.

        ``entered`` [1], if given, is what T has to be.
        """
        logits_TE = gate_logits(jittered(h_TD, self.jitter) if self.training else h_TD, self.gates[i])
        z_sum = logits_TE.logsumexp(dim=-1).square().sum()
        if local_only and self.experts_per_rank[i][self.ep_rank] >= self.top_k:
            logits_TE = logits_TE.masked_fill(getattr(self, f"is_remote_{i}").bool(), -torch.inf)
        probs_TE = torch.softmax(logits_TE, dim=-1)
        prob_sum_E = probs_TE.sum(0)
        order, expert_TK = self._choose(i, probs_TE)
        after_T = getattr(self, f"stratum_after_{i}")[expert_TK[:, 0]]
        counts = self._exchange_counts(i, order, after_T, prob_sum_E, entered)
        index = order.row_index(counts.num_rows)
        weights_TK, keep_PD = self._weights(probs_TE.gather(1, expert_TK), index)
        y_TD = self._mixed_experts(i, h_TD, weights_TK, index, counts, keep_PD)
        stats = StratumStats(
            num_tokens=h_TD.shape[0],
            prob_sum_E=prob_sum_E,
            requested_KE=order.requested_KE,
            num_dropped=expert_TK.numel() - counts.num_rows,
            entropy_sum=torch.special.entr(probs_TE.detach()).sum(),
            z_sum=z_sum,
        )
        return y_TD, after_T, stats, counts.extra[: len(self.placement.strata) + 1]

    def _choose(self, i: int, probs_TE: Tensor) -> tuple[RowOrder, Tensor]:
        """The rows of stratum i by expert, and the chosen experts [T, K]."""
        scores_TE = probs_TE
        if self.bias_balancing:
            scores_TE = probs_TE + self.bias_balancing * self.bias_steps()[i].to(probs_TE.dtype)
        expert_TK = choose(scores_TE, self.top_k, self.training and self.second_expert == "sample")
        capacity_factor = self.capacity_factor if self.training else None
        capacity = expert_capacity(probs_TE.shape[0], probs_TE.shape[1], capacity_factor)
        priority_T = None
        if self.capacity_order == "probability" and capacity is not None:
            priority_T = probs_TE.detach().gather(1, expert_TK[:, :1]).squeeze(1)
        return order_rows(expert_TK, getattr(self, f"slot_of_expert_{i}"), capacity, priority_T), expert_TK

    def _exchange_counts(
        self, i: int, order: RowOrder, after_T: Tensor, prob_sum_E: Tensor, entered: Tensor | None
    ) -> RowCounts:
        """Row counts on the host; the first extra ones are the tokens that go on to each stratum."""
        alarm = torch.zeros(1, dtype=torch.long, device=after_T.device)
        if self.check_finite:
            alarm = (~torch.isfinite(prob_sum_E.detach()).all()).long().view(1)
        extra = count_values(after_T, len(self.placement.strata) + 1)
        if entered is not None:
            extra = torch.cat([extra, entered])
        counts = self.dispatcher.exchange_counts(order.counts, self.experts_per_rank[i], alarm, extra)
        if entered is not None and counts.extra[-1] != after_T.shape[0]:
            raise ValueError(
                f"{self.name}: num_tokens is {after_T.shape[0]}, but {counts.extra[-1]} positions are not padding; "
                "leave num_tokens out to have them counted"
            )
        if any(counts.alarms):
            ranks = ", ".join(str(rank) for rank, raised in enumerate(counts.alarms) if raised)
            where = f" on rank {ranks} of its expert-parallel group" if len(counts.alarms) > 1 else ""
            raise NonFiniteError(
                f"{self.name}: the input of stratum {i} holds NaN or infinite numbers{where}; look for the first layer "
                "that makes them, or lower the learning rate (check_finite=False lets them pass)"
            )
        return counts

    def backend(self, device: torch.device, dtype: torch.dtype) -> str:
        """How this layer's experts are computed for rows of ``dtype`` on ``device``.

        Raises:
            ValueError: ``expert_backend`` names one that cannot work there.
        """
        experts = list(self.experts.values())
        return backend_here(self.expert_backend, experts, device, dtype, ep_size=self.placement.ep_size)

    def _mixed_experts(
        self, i: int, h_TD: Tensor, weights_TK: Tensor, index: RowIndex, counts: RowCounts, keep_PD: Tensor | None
    ) -> Tensor:
        """The weighted sum of the chosen experts' outputs [T, D]."""
        experts = [self.experts[str(e)] for e in self.placement.local_experts(self.ep_rank, i)]
        backend = self.backend(h_TD.device, h_TD.dtype)
        if backend == "lean":
            return mix_experts(cast(list[ExpertFFN], experts), h_TD, weights_TK, index, counts.per_expert, keep_PD)

        def run(first: int, rows: Tensor, counts: list[int]) -> Tensor:
            some = experts[first : first + len(counts)]
            if backend == "grouped" and rows.shape[0]:
                return apply_experts_grouped(cast(list[ExpertFFN], some), rows, counts)
            return apply_experts(some, rows, counts)

        rows_RD = rows_of_tokens(h_TD, index)
        outputs_RD = self.dispatcher.through_experts(rows_RD, counts, self.experts_per_rank[i], run)
        return sum_by_token(outputs_RD, weights_TK, index, keep_PD)

    def _weights(self, probs_TK: Tensor, index: RowIndex) -> tuple[Tensor, Tensor | None]:
        """Weights of the chosen experts' outputs, and the dropout mask; noise is drawn by token, wherever the experts
        are, so that every topology draws the same."""
        kept_TK = None if index.missing_KT is None else ~index.missing_KT.t()
        weights_TK = normalised_weights(probs_TK, kept_TK, self.combine_weights)
        masking = self.expert_output_masking
        if masking and self.training:
            weights_TK = weights_TK * torch.empty_like(weights_TK).bernoulli_(1 - masking)
        elif masking:
            weights_TK = weights_TK * (1 - masking)
        if not (self.dropout and self.training):
            return weights_TK, None
        keep = torch.empty(weights_TK.numel(), self.d_model, dtype=torch.bool, device=weights_TK.device)
        return weights_TK / (1 - self.dropout), keep.bernoulli_(1 - self.dropout)

    def _with_shared_expert(self, h_TD: Tensor, y_TD: Tensor) -> tuple[Tensor, Tensor | None]:
        """The routed output with that of the shared expert, and the sum of CMR's gate."""
        assert self.shared is not None
        shared_TD = F.dropout(self.shared(h_TD), self.dropout, self.training)
        if self.cmr_gate is None:
            return y_TD + shared_TD, None
        gate_T1 = torch.sigmoid(gate_logits(h_TD, self.cmr_gate.weight) + self.cmr_gate.bias)
        gate_sum = gate_T1.sum()
        if self.training and self.cmr_gate_dropout:
            gate_T1 = gate_T1 * torch.empty_like(gate_T1).bernoulli_(1 - self.cmr_gate_dropout)
        return (gate_T1 * y_TD + (1 - gate_T1) * shared_TD).to(y_TD.dtype), gate_sum


def _take(values: Tensor, index_T: Tensor | None) -> Tensor:
    """Rows ``index_T``; all of them for None."""
    return values if index_T is None else values.index_select(0, index_T)


def _put(values: Tensor, index_T: Tensor | None, new: Tensor) -> None:
    """Overwrite rows ``index_T``, all of them for None."""
    if index_T is None:
        values.copy_(new)
    else:
        values.index_copy_(0, index_T, new)
