"""From choices to rows: capacity, and the order in which kept rows are handed to the experts.

Everything here has static shapes and runs on the device; the number of kept rows reaches the host once per stratum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from smoe_ds.moe.rows import RowIndex


def expert_capacity(num_tokens: int, num_experts: int, capacity_factor: float | None) -> int | None:
    """Rows an expert takes in one stratum: ``ceil(capacity_factor * T_i / E_i)``; None without a limit.

    Args:
        num_tokens: tokens in the stratum, T_i.
        num_experts: experts the stratum sees, E_i.
        capacity_factor: 2 in the paper; None for no limit.
    """
    return None if capacity_factor is None else math.ceil(capacity_factor * num_tokens / num_experts)


@dataclass(frozen=True)
class RowOrder:
    """All T * K (token, choice) pairs, sorted by exchange slot of their expert.

    A pair has the number ``choice * T + token``. Within an expert first choices come before second ones, each in the
    order of priority, and those that find no room are the last ones. Choices that a token does not take are at the end.

    Attributes:
        pairs: pair numbers [T * K], sorted by slot.
        kept: True where the pair is taken and within its expert's capacity [T * K], in the order of ``pairs``; None:
            all are.
        counts: kept rows per slot [E].
        requested_KE: rows wanted per choice and visible expert [K, E], before capacity.
    """

    pairs: Tensor
    kept: Tensor | None
    counts: Tensor
    requested_KE: Tensor

    def row_index(self, num_rows: int, most: int | None = None) -> RowIndex:
        """Rows by pair and pairs by row, once the number of kept rows has reached the host.

        Args:
            num_rows: kept rows.
            most: choices that a token takes at most; None: K.
        """
        num_choices, num_pairs = self.requested_KE.shape[0], self.pairs.numel()
        num_tokens = num_pairs // num_choices
        row = torch.empty_like(self.pairs)
        pair_R, missing = self.pairs, None
        if self.kept is None or num_rows == num_pairs:
            row[self.pairs] = torch.arange(num_pairs, device=row.device)
        else:
            pair_R = self.pairs.index_select(0, torch.nonzero_static(self.kept, size=num_rows).squeeze(1))
            row[self.pairs] = self.kept.cumsum(0).sub_(1).clamp_(min=0)
            missing = torch.empty_like(self.kept)
            missing[self.pairs] = ~self.kept
            missing = missing.view(num_choices, num_tokens)
        index = RowIndex(pair_R, pair_R % max(num_tokens, 1), row.view(num_choices, num_tokens), missing)
        return index if most is None else index.first(most)


def count_values(values: Tensor, size: int) -> Tensor:
    """How often each of 0 .. size-1 occurs, int64 [size]; unlike ``bincount`` without a copy to the host."""
    return torch.zeros(size, dtype=torch.long, device=values.device).scatter_add_(0, values, torch.ones_like(values))


def order_rows(
    expert_TK: Tensor,
    slot_of_expert: Tensor,
    capacity: int | None,
    priority_T: Tensor | None = None,
    chosen_TK: Tensor | None = None,
) -> RowOrder:
    """Sorts (token, choice) pairs by the exchange slot of their expert and marks those beyond the capacity.

    Args:
        expert_TK: visible-expert numbers [T, K].
        slot_of_expert: position of each visible expert in the exchange order [E].
        capacity: rows per expert; None for no limit.
        priority_T: higher goes first where an expert is full, ties in position order; None: position order.
        chosen_TK: True where a choice is taken [T, K]; None: all are.
    """
    num_tokens, num_choices = expert_TK.shape
    num_experts = slot_of_expert.numel()
    device = expert_TK.device
    expert_KT = expert_TK.t()
    slot_KT = slot_of_expert[expert_KT]
    choice_K1 = torch.arange(num_choices, device=device).unsqueeze(1)
    requested_KE = _requested(choice_K1, expert_KT, num_experts, chosen_TK)
    if chosen_TK is not None:
        slot_KT = slot_KT.masked_fill(~chosen_TK.t(), num_experts)
    if priority_T is None:
        sorted_slots, pairs = torch.sort(slot_KT.flatten(), stable=True)
    else:
        token_T = priority_T.sort(descending=True, stable=True).indices
        sorted_slots, order = torch.sort(slot_KT[:, token_T].flatten(), stable=True)
        pairs = (choice_K1 * num_tokens + token_T).flatten()[order]
    wanted = torch.zeros(num_experts, dtype=torch.long, device=device)
    wanted[slot_of_expert] = requested_KE.sum(0)
    if capacity is None:
        kept = None if chosen_TK is None else sorted_slots < num_experts
        return RowOrder(pairs, kept, wanted, requested_KE)
    ends = wanted.cumsum(0)
    starts = ends - wanted if chosen_TK is None else torch.cat([ends - wanted, ends[-1:]])
    rank_in_expert = torch.arange(pairs.numel(), device=device) - starts[sorted_slots]
    kept = rank_in_expert < capacity
    if chosen_TK is not None:
        kept &= sorted_slots < num_experts
    return RowOrder(pairs, kept, wanted.clamp(max=capacity), requested_KE)


def _requested(choice_K1: Tensor, expert_KT: Tensor, num_experts: int, chosen_TK: Tensor | None) -> Tensor:
    """Rows wanted per choice and expert [K, E]."""
    num_choices = expert_KT.shape[0]
    cell_KT = choice_K1 * num_experts + expert_KT
    if chosen_TK is None:
        counts = count_values(cell_KT.flatten(), num_choices * num_experts)
    else:
        cell_KT = cell_KT.masked_fill(~chosen_TK.t(), num_choices * num_experts)
        counts = count_values(cell_KT.flatten(), num_choices * num_experts + 1)[:-1]
    return counts.view(num_choices, num_experts)
