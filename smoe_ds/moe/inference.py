"""The experts' part of a mixture where nothing is learnt: the host knows who goes where, and nothing is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from smoe_ds.moe.experts import apply_experts


def mix_choices(
    experts: Sequence[Callable[[Tensor], Tensor]],
    h_TD: Tensor,
    weights_TK: Tensor,
    expert_P: Sequence[int],
    chosen_TK: Tensor | None = None,
) -> Tensor:
    """The weighted sum of each token's experts, as ``sum_by_token(apply_experts(rows_of_tokens(h)))`` makes it.

    With few tokens a sort and its bookkeeping on tensors take longer than lists do, and with many the experts take so
    long that neither matters.

    Args:
        experts: any, in the order of their numbers.
        h_TD: the experts' input.
        weights_TK: weight of each choice; must be 0 where it is not taken.
        expert_P: expert of each choice, token by token; T * K of them.
        chosen_TK: True where a choice is taken; None: all are.

    Returns:
        [T, D] in the dtype of ``h_TD``; added up in that of the weights.
    """
    num_tokens, num_choices = weights_TK.shape
    pairs: list[list[int]] = [[] for _ in experts]
    taken = range(len(expert_P)) if chosen_TK is None else chosen_TK.flatten().nonzero().flatten().tolist()
    for pair in taken:
        pairs[expert_P[pair]].append(pair)
    pair_R = torch.tensor([pair for own in pairs for pair in own], dtype=torch.long)
    rows_RD = h_TD.index_select(0, pair_R.div(num_choices, rounding_mode="floor"))
    outputs_RD = apply_experts(experts, rows_RD, [len(own) for own in pairs]).to(weights_TK.dtype)
    outputs_PD = outputs_RD.new_zeros(num_tokens * num_choices, h_TD.shape[1]).index_copy_(0, pair_R, outputs_RD)
    y_T1D = torch.bmm(weights_TK.unsqueeze(1), outputs_PD.view(num_tokens, num_choices, -1))
    return y_T1D.squeeze(1).to(h_TD.dtype)
