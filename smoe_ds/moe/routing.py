"""From choices to rows: capacity, and the order in which kept rows are handed to the experts.

Everything here has static shapes and runs on the device; the number of kept rows reaches the host once per stratum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


def expert_capacity(num_tokens: int, num_experts: int, capacity_factor: float | None) -> int:
    """Rows an expert takes in one stratum: ``ceil(capacity_factor * T_i / E_i)``; T_i times 2 without a limit.

    Args:
        num_tokens: tokens in the stratum, T_i.
        num_experts: experts the stratum sees, E_i.
        capacity_factor: 2 in the paper; None for no limit.
    """
    if capacity_factor is None:
        return 2 * num_tokens
    return math.ceil(capacity_factor * num_tokens / num_experts)


@dataclass(frozen=True)
class RowOrder:
    """All T * K (token, choice) pairs, sorted by exchange slot of their expert.

    A pair has the flat number ``choice * T + token``: within an expert first choices come before second ones, each in
    token order, and those that find no room are the last ones.

    Attributes:
        flat: pair numbers [T * K], sorted by slot, stable.
        kept: True where the pair is within its expert's capacity [T * K], in the order of ``flat``.
        kept_TK: the same by token and choice.
        counts: kept rows per slot [E].
        requested_KE: rows wanted per choice and visible expert [K, E], before capacity.
    """

    flat: Tensor
    kept: Tensor
    kept_TK: Tensor
    counts: Tensor
    requested_KE: Tensor


def count_values(values: Tensor, size: int) -> Tensor:
    """How often each of 0 .. size-1 occurs, int64 [size]; unlike ``bincount`` without a copy to the host."""
    return torch.zeros(size, dtype=torch.long, device=values.device).scatter_add_(0, values, torch.ones_like(values))


def order_rows(expert_TK: Tensor, slot_of_expert: Tensor, capacity: int) -> RowOrder:
    """Sort (token, choice) pairs by the exchange slot of their expert and mark those beyond the capacity.

    Args:
        expert_TK: visible-expert numbers [T, K].
        slot_of_expert: position of each visible expert in the exchange order [E].
        capacity: rows per expert.
    """
    num_tokens, num_choices = expert_TK.shape
    num_experts = slot_of_expert.numel()
    expert_KT = expert_TK.t().contiguous()
    slots = slot_of_expert[expert_KT].flatten()
    sorted_slots, flat = torch.sort(slots, stable=True)
    choice_K1 = torch.arange(num_choices, device=slots.device).unsqueeze(1) * num_experts
    requested_KE = count_values((choice_K1 + expert_KT).flatten(), num_choices * num_experts)
    requested_KE = requested_KE.view(num_choices, num_experts)
    wanted = torch.zeros(num_experts, dtype=torch.long, device=slots.device)
    wanted[slot_of_expert] = requested_KE.sum(0)
    starts = wanted.cumsum(0) - wanted
    rank_in_expert = torch.arange(flat.numel(), device=slots.device) - starts[sorted_slots]
    kept = rank_in_expert < capacity
    kept_flat = torch.empty_like(kept)
    kept_flat[flat] = kept
    return RowOrder(
        flat=flat,
        kept=kept,
        kept_TK=kept_flat.view(num_choices, num_tokens).t(),
        counts=wanted.clamp(max=capacity),
        requested_KE=requested_KE,
    )
