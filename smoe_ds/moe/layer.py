"""The stratified mixture-of-experts block: LayerNorm, gates, experts and residual, one pass per stratum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smoe_ds.config.heads import inner_sizes
from smoe_ds.errors import LaunchError
from smoe_ds.moe.adaptive import Adaptive
from smoe_ds.moe.balancing import BalancingBias
from smoe_ds.moe.checks import (
    block_settings,
    check_custom_expert,
    check_ep_rank,
    check_input,
    check_num_tokens,
    check_sizes,
    make_experts,
)
from smoe_ds.moe.common import Common, Experts, SharedPart
from smoe_ds.moe.dispatch import Dispatcher, LocalDispatcher
from smoe_ds.moe.expert_backend_here import backend_here
from smoe_ds.moe.experts import ExpertFFN
from smoe_ds.moe.experts_adapters import Adapter
from smoe_ds.moe.experts_mpo import ChainExpert
from smoe_ds.moe.heads import Heads, InnerBlock
from smoe_ds.moe.initial import initialize
from smoe_ds.moe.mixture import Mixed, Mixture
from smoe_ds.moe.placement import Placement
from smoe_ds.moe.routing import RoutingContext, Tokens
from smoe_ds.moe.shared_expert import mix_shared, mixing_gate
from smoe_ds.moe.stats import BlockStats


class StratifiedMoE(nn.Module):
    """Stratified mixture of experts with its own LayerNorms and residual: ``x -> (y, stats)``.

    A token starts in stratum 0. In stratum i its gate sees the experts of strata i and later; the token gets the
    weighted output of its experts added, and goes on to the stratum after its first choice's, until none is left.
    ``strata`` of one entry is a plain mixture of experts; with ``top_k=1`` it is a Switch layer (arXiv 2101.03961).

    With ``ep_size`` above 1 the experts are spread over that many ranks: :func:`smoe_ds.moe.stratified_moe` builds the
    layer that ``deepspeed.initialize`` knows how to handle.

    Args:
        d_model: width D.
        d_ffn: inner width F of the built-in experts, unless ``expert_ffn`` is set.
        strata: experts per stratum, first stratum first.
        top_k: experts per token and stratum, K.
        activation: of the built-in experts: ``relu`` (as in the paper), ``gelu`` or ``swiglu``.
        dropout: dropout on the experts' outputs.
        norm_epsilon: added to the variance in LayerNorms.
        check_finite: raise where the input holds NaN or infinite numbers. Switch it off where a loss scaler is to skip
            such steps.
        ep_size: ranks that share one copy of the experts.
        ep_rank: this rank's number among them; it holds the experts e with ``e % ep_size == ep_rank``. The exchange is
            the caller's then: set ``dispatcher``.
        seed: seed of the initial weights; with ``name`` it decides them whatever the ``ep_size``.
        name: the block's name in its model; blocks with different names start with different weights.
        expert: makes one expert, any module [n, D] -> [n, D], n may be 0; default :class:`ExpertFFN`. A custom expert
            initialises itself.
        **settings: the other keys of :class:`smoe_ds.config.block.BlockSettings`, where each is explained.

    Raises:
        ValueError: an argument that cannot work, with the remedy.
        LaunchError: ``ep_size`` above 1 without ``ep_rank``.

    Source: Eq. 4-11 of arXiv 2305.02176.
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
        norm_epsilon: float = 1e-5,
        check_finite: bool = True,
        ep_size: int = 1,
        ep_rank: int | None = None,
        seed: int = 1,
        name: str = "moe",
        expert: Callable[[], nn.Module] | None = None,
        **settings: Any,
    ) -> None:
        block = block_settings(strata, top_k, settings)
        check_sizes(d_model, d_ffn, block, ep_size, activation, dropout, norm_epsilon)
        check_custom_expert(expert, block)
        # Not super(): a subclass may also inherit from DeepSpeed's MoE, whose __init__ builds experts of its own.
        nn.Module.__init__(self)
        self.block = block
        self.placement = Placement(tuple(block.strata), ep_size, block.stacked)
        self.d_model = d_model
        self.width, d_ffn = inner_sizes(block, d_model, d_ffn, activation)
        widths, inner = block.widths(d_ffn), block.inner_width(d_ffn)
        self.heads = Heads(d_model, block.heads, norm_epsilon) if block.heads > 1 else None
        self.dropout = dropout
        self.ep_rank = self._own_ep_rank(ep_size) if ep_rank is None else ep_rank
        check_ep_rank(self.ep_rank, ep_size)
        self.name = name
        self.dispatcher: Dispatcher = LocalDispatcher()

        strata_numbers = range(len(block.strata))
        visible = [len(self.placement.visible_experts(i)) for i in strata_numbers]
        num_norms = 1 if block.stacked else len(block.strata)
        self.norms = nn.ModuleList(nn.LayerNorm(self.width, norm_epsilon) for _ in range(num_norms))
        rows = [block.gate_rows(number) for number in visible]
        self.gates = nn.ParameterList(nn.Parameter(torch.empty(number, self.width)) for number in rows if number)
        self.mixtures = nn.ModuleList(
            Mixture(
                block,
                self.placement,
                i,
                d_model=self.width,
                widths=widths,
                dropout=dropout,
                ep_rank=self.ep_rank,
                name=self.name,
            )
            for i in strata_numbers
        )
        self.output_norm = nn.LayerNorm(self.width, norm_epsilon) if block.norm == "released" else None
        local = self.placement.experts_on(self.ep_rank)
        common: Common | None = block.experts.build(self.width, inner, activation)
        self.common: SharedPart | None = common
        own = [] if common is None else [common.expert() for _ in local]
        networks = [widths[e] for e in local[len(own) :]] + [inner] * (block.shared_expert != "none")
        if expert is None:
            made: list[nn.Module] = own + [ExpertFFN(self.width, width, activation) for width in networks]
        else:
            made = make_experts(expert, len(networks))
        self.experts = nn.ModuleDict({str(e): module for e, module in zip(local, made, strict=False)})
        self.shared = made[-1] if block.shared_expert != "none" else None
        gate = mixing_gate(block.shared_expert, self.width)
        self.cmr_gate = gate if block.shared_expert == "cmr" else None
        self.coefficient = gate if block.shared_expert == "residual" else None
        self._initialize(seed)
        if block.bias_balancing:
            for i, number in enumerate(visible):
                self.register_buffer(f"balance_steps_{i}", torch.zeros(number, dtype=torch.long))
        self.check_finite = check_finite

    @property
    def check_finite(self) -> bool:
        """Whether NaN and infinite numbers in the input raise."""
        return all(mixture.check_finite for mixture in self._mixtures)

    @check_finite.setter
    def check_finite(self, value: bool) -> None:
        for mixture in self._mixtures:
            mixture.check_finite = value

    @property
    def _mixtures(self) -> list[Mixture]:
        return cast(list[Mixture], list(self.mixtures))

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
        if self.heads is not None:
            self.heads.initialize(seed, self.name, "heads")
        for i, gate in enumerate(self.gates):
            initialize(gate, None, self.block.gate_init, seed, self.name, "gates", i)
        for i, mixture in enumerate(self._mixtures):
            mixture.router.initialize(seed, self.name, "routers", i)
        last, how = len(self.block.strata) - 1, self.block.expert_init
        # An earlier one of stacked strata must not give zeros: they are all that the next one would ever get.
        earlier = "linear" if self.block.stacked and last and how == "zero" else how
        for number, expert in self.experts.items():
            if isinstance(expert, ExpertFFN | Adapter | ChainExpert):
                is_last = self.placement.stratum_of(int(number)) == last
                expert.initialize(seed, self.name, "experts", number, how=how if is_last else earlier)
        if isinstance(self.common, Common):
            self.common.initialize(seed, self.name, "common", how=earlier)
        if isinstance(self.shared, ExpertFFN):
            self.shared.initialize(seed, self.name, "shared", how=earlier)
        for name in ("cmr_gate", "coefficient"):
            if (gate := getattr(self, name)) is not None:
                initialize(gate.weight, gate.bias, "xavier", seed, self.name, name)

    def bias_steps(self) -> list[Tensor]:
        """The balancing bias of each gate's experts, in steps of ``bias_balancing``; empty without."""
        number = len(self.block.strata) if self.block.bias_balancing else 0
        return [getattr(self, f"balance_steps_{i}") for i in range(number)]

    def adaptive(self) -> list[tuple[int, Adaptive]]:
        """What adapts to the routing after each step, see :mod:`smoe_ds.moe.adaptive`, with its stratum."""
        parts: list[tuple[int, Adaptive]] = [(i, BalancingBias(steps_E)) for i, steps_E in enumerate(self.bias_steps())]
        routers = ((i, mixture.router.adaptive()) for i, mixture in enumerate(self._mixtures))
        return parts + [(i, part) for i, part in routers if part is not None]

    def forward(
        self,
        x: Tensor,
        padding_mask: Tensor | None = None,
        num_tokens: int | None = None,
        token_ids: Tensor | None = None,
        language: Tensor | None = None,
        pair: Tensor | None = None,
        stats: bool = True,
    ) -> tuple[Tensor, BlockStats | None]:
        """Routes every position that is not padding through the strata.

        Args:
            x: [..., D].
            padding_mask: True where a position is padding [...]; such positions are neither routed nor counted.
            num_tokens: positions that are no padding, if the caller knows: spares a wait for the device.
            token_ids: vocabulary ids of the input [B, S], for routers that look at them; x is [B, S, D] then.
            language: id of the sentences' language [B]; None: the first token of each sentence.
            pair: ids of the language tokens of source and target [B, 2], for a router that goes by both.
            stats: whether to tell what the routing did. If not, evaluation without gradient takes a shorter way to the
                same output on the CPU, with ``ep_size`` 1, ``expert_backend`` auto or loop, and no autocast.

        Returns:
            The block's output in the shape of ``x``, residual included (padding positions pass unrouted), and what the
            routing did; None in its place after the shorter way, which calls the router but not the mixtures.

        Raises:
            ValueError: shapes that do not fit, a wrong ``num_tokens``, no token ids for a router that needs them.
            LaunchError: experts on other ranks, and no exchange with them yet.
            NonFiniteError: NaN or infinite numbers at a position that is no padding, on all ranks of the group.
        """
        check_input(x, padding_mask, num_tokens, self.d_model, token_ids, pair, self.block)
        if self.placement.ep_size > 1 and isinstance(self.dispatcher, LocalDispatcher):
            raise LaunchError(
                f"{self.name}: ep_size is {self.placement.ep_size}, but nothing exchanges rows yet; hand the model to "
                "deepspeed.initialize first, or set the layer's dispatcher"
            )
        block: InnerBlock = self._through_strata if stats or not self._can_infer(x) else self._infer
        if self.heads is not None:
            return cast(
                tuple[Tensor, BlockStats | None],
                self.heads(x, block, padding_mask, num_tokens, token_ids, language, pair),
            )
        return block(x, padding_mask, num_tokens, token_ids, language, pair)

    def _through_strata(
        self,
        x: Tensor,
        padding_mask: Tensor | None,
        num_tokens: int | None,
        token_ids: Tensor | None,
        language: Tensor | None,
        pair: Tensor | None,
    ) -> tuple[Tensor, BlockStats]:
        """The block itself, of positions or of their slices."""
        block, num_strata = self.block, len(self.block.strata)
        x_ND = x.reshape(-1, self.width)
        gates_aside = self.training and block.gating_dropout > 0 and float(torch.rand(())) < block.gating_dropout
        next_stratum_N, entering = self._entering(x_ND, padding_mask, num_tokens, gates_aside)
        context = self._context(token_ids, language, pair)
        experts = self._experts()
        waiting = [entering] + [0] * num_strata
        passes_N = torch.zeros_like(next_stratum_N)
        strata, cmr_gate_sum, h_TD = [], None, x_ND
        for i in range(num_strata):
            index_T = None
            if waiting[i] != x_ND.shape[0]:
                index_T = torch.nonzero_static(next_stratum_N == i, size=waiting[i], fill_value=0).squeeze(1)
            if i == 0 or not block.stacked:
                h_TD = self.norms[i](_take(x_ND, index_T))
            claimed = None if i or num_tokens is None else (next_stratum_N == 0).sum().view(1)
            mixed = self._mixture(i, h_TD, experts, context.select(index_T), claimed, local_only=gates_aside)
            y_TD, gate_sum = self._given(i, h_TD, mixed.y_TD)
            cmr_gate_sum = gate_sum if i == 0 else cmr_gate_sum
            _put(next_stratum_N, index_T, mixed.after_T)
            _put(passes_N, index_T, _take(passes_N, index_T) + 1)
            waiting = [old + new for old, new in zip(waiting, mixed.arriving, strict=True)]
            strata.append(mixed.stats)
            if block.stacked and i < num_strata - 1:
                h_TD = y_TD
            else:
                x_ND = self._add(x_ND, index_T, h_TD if self._replaces(i) else None, y_TD)
        if self.output_norm is not None:
            x_ND = self.output_norm(x_ND)
        return x_ND.reshape(x.shape), BlockStats(strata, passes_N.reshape(x.shape[:-1]), cmr_gate_sum)

    def _can_infer(self, x: Tensor) -> bool:
        """Whether `_infer` does for `_through_strata`, but for the statistics."""
        learns = self.training or torch.is_grad_enabled()
        here = x.device.type == "cpu" and self.placement.ep_size == 1 and not torch.is_autocast_enabled("cpu")
        return here and not learns and self.block.expert_backend in ("auto", "loop")

    def _infer(
        self,
        x: Tensor,
        padding_mask: Tensor | None,
        num_tokens: int | None,
        token_ids: Tensor | None,
        language: Tensor | None,
        pair: Tensor | None,
    ) -> tuple[Tensor, None]:
        """The output of `_through_strata` in evaluation; the host keeps the positions that wait for each stratum."""
        block, num_strata = self.block, len(self.block.strata)
        x_ND = x.reshape(-1, self.width).clone()
        entering = range(len(x_ND)) if padding_mask is None else (~padding_mask).flatten().nonzero().flatten().tolist()
        if num_tokens is not None:
            check_num_tokens(self.name, num_tokens, len(entering), block.heads)
        context, experts = self._context(token_ids, language, pair, sums=False), self._experts()
        waiting: list[list[int]] = [list(entering), *([] for _ in range(num_strata))]
        y_TD = x_ND
        for i in range(num_strata):
            if not waiting[i]:
                continue
            here = sorted(waiting[i])
            index_T = None if len(here) == len(x_ND) else torch.tensor(here)
            x_TD = _take(x_ND, index_T)
            h_TD = y_TD if block.stacked and i else self.norms[i](x_TD)
            told = self._told(i, context.select(index_T))
            y_TD, after = self._mixtures[i].infer(h_TD, self._gate(i), experts, told, self.common)
            y_TD, _ = self._given(i, h_TD, y_TD)
            for position, stratum in zip(here, after, strict=True):
                waiting[stratum].append(position)
            if not block.stacked or i == num_strata - 1:
                residual_TD = h_TD if self._replaces(i) else x_TD
                _put(x_ND, index_T, residual_TD.to(x.dtype) + y_TD.to(x.dtype))
        if self.output_norm is not None:
            x_ND = self.output_norm(x_ND)
        return x_ND.reshape(x.shape), None

    def _context(
        self, token_ids: Tensor | None, language: Tensor | None, pair: Tensor | None, sums: bool = True
    ) -> RoutingContext:
        if token_ids is None or not self.block.router.needs:
            return RoutingContext(self.training, sums=sums)
        return RoutingContext(self.training, tokens=Tokens.of(token_ids, language, pair), sums=sums)

    def _told(self, i: int, context: RoutingContext) -> RoutingContext:
        """What the router of stratum i is told."""
        return replace(context, bias_steps_E=self.bias_steps()[i]) if self.block.bias_balancing else context

    def _gate(self, i: int) -> Tensor | None:
        """The gate's weight of stratum i; None where the router has none."""
        return self.gates[i] if len(self.gates) else None

    def _mixture(
        self,
        i: int,
        h_TD: Tensor,
        experts: Experts,
        context: RoutingContext,
        entered: Tensor | None,
        *,
        local_only: bool,
    ) -> Mixed:
        """The mixture of stratum i."""
        mixed: Mixed = self.mixtures[i](
            h_TD,
            self._gate(i),
            experts,
            self.dispatcher,
            self._told(i, context),
            common=self.common,
            local_only=local_only,
            entered=entered,
        )
        return mixed

    def _experts(self) -> Experts:
        """What the experts are computed with."""
        return self.experts if self.common is None else self.common.ready(self.experts)

    def _entering(
        self, x_ND: Tensor, padding_mask: Tensor | None, num_tokens: int | None, gates_aside: bool
    ) -> tuple[Tensor, int]:
        """The stratum each position enters first [N], one beyond the last for none; how many enter the first."""
        num_strata = len(self.placement.strata)
        next_stratum_N = torch.zeros(x_ND.shape[0], dtype=torch.long, device=x_ND.device)
        if gates_aside and self.block.gating_dropout_mode == "skip":
            return next_stratum_N.fill_(num_strata), 0
        if padding_mask is None:
            return next_stratum_N, x_ND.shape[0]
        next_stratum_N.masked_fill_(padding_mask.reshape(-1), num_strata)
        return next_stratum_N, int((next_stratum_N == 0).sum()) if num_tokens is None else num_tokens

    def _add(self, x_ND: Tensor, index_T: Tensor | None, residual_TD: Tensor | None, y_TD: Tensor) -> Tensor:
        """x with y added at the tokens ``index_T`` (None: all), or with ``residual + y`` in their place."""
        y_TD = y_TD.to(x_ND.dtype)
        if residual_TD is not None:
            y_TD = residual_TD.to(x_ND.dtype) + y_TD
            return y_TD if index_T is None else x_ND.index_copy(0, index_T, y_TD)
        return x_ND + y_TD if index_T is None else x_ND.index_add(0, index_T, y_TD)

    def backend(self, device: torch.device, dtype: torch.dtype) -> str:
        """How this layer's experts are computed for rows of ``dtype`` on ``device``.

        Raises:
            ValueError: ``expert_backend`` names one that cannot work there.
        """
        with torch.no_grad():
            experts = list(self._experts().values())
        return backend_here(self.block, experts, device, dtype, ep_size=self.placement.ep_size)

    def _replaces(self, i: int) -> bool:
        """Whether stratum i's residual is its normalised input, which so takes the place of what it got."""
        return self.block.norm == "released" and i > 0 and not self.block.stacked

    def _given(self, i: int, h_TD: Tensor, y_TD: Tensor) -> tuple[Tensor, Tensor | None]:
        """Stratum i's output, made of that of its experts; and the sum of CMR's gate, which is in the first stratum."""
        gate_sum = None
        if i == 0 and self.shared is not None:
            y_TD, gate_sum = self._with_shared_expert(self.shared, h_TD, y_TD)
        return self._masked(y_TD) if self.block.final_output_masking else y_TD, gate_sum

    def _with_shared_expert(self, shared: nn.Module, h_TD: Tensor, y_TD: Tensor) -> tuple[Tensor, Tensor | None]:
        """The routed output with that of the shared expert, and the sum of CMR's gate."""
        shared_TD = F.dropout(shared(h_TD), self.dropout, self.training)
        gate = self.coefficient if self.cmr_gate is None else self.cmr_gate
        return mix_shared(h_TD, y_TD, shared_TD, gate, self.block.cmr_gate_dropout if self.training else 0.0)

    def _masked(self, y_TD: Tensor) -> Tensor:
        """Final output masking: in training some tokens' vectors are zero; in evaluation all are smaller."""
        kept = 1 - self.block.final_output_masking
        return y_TD * (y_TD.new_empty(y_TD.shape[0], 1).bernoulli_(kept) if self.training else kept)


def _take(values: Tensor, index_T: Tensor | None) -> Tensor:
    """Rows ``index_T``; all of them for None."""
    return values if index_T is None else values.index_select(0, index_T)


def _put(values: Tensor, index_T: Tensor | None, new: Tensor) -> None:
    """Overwrite rows ``index_T``, all of them for None."""
    if index_T is None:
        values.copy_(new)
    else:
        values.index_copy_(0, index_T, new)
