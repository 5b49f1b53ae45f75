"""The load-balancing loss over one rank's or all ranks' tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from smoe_ds.moe.stats import BlockStats


def load_balancing_loss(
    blocks: Sequence[BlockStats], sum_counts: Callable[[Tensor], Tensor] | None = None, num_ranks: int = 1
) -> Tensor:
    """``E_i * sum_e f_e p_e`` per gate, averaged over the L gates of a block and over blocks; 1 when balanced.

    ``f_e`` is the share of tokens whose first choice is expert e, ``p_e`` the mean gate probability. A gate that saw no
    token contributes 0. With ``sum_counts`` the f_e and the number of tokens are those of all ranks: the mean of the
    returned values over the ranks is then the loss of the whole batch, and its gradient the gradient of that. One
    exchange serves all blocks.

    Args:
        blocks: statistics of every block of one forward pass; not empty.
        sum_counts: sums a float64 vector over the ranks (no gradient); None: this rank's tokens only.
        num_ranks: ranks that ``sum_counts`` sums over.

    Returns:
        0-dim tensor, float32 or wider.

    Source: Eq. 8 of the paper; the divisor is L (not the number of strata visited) and padding is not counted.
    """
    strata = [(stratum, len(block.strata)) for block in blocks for stratum in block.strata]
    device = strata[0][0].prob_sum_E.device
    tokens = torch.tensor([s.num_tokens for s, _ in strata], dtype=torch.float64, device=device)
    counts = torch.cat([tokens, *(s.first_choice_E.to(torch.float64) for s, _ in strata)])
    if sum_counts is not None:
        counts = sum_counts(counts)
    per_stratum = counts[len(strata) :].split([s.first_choice_E.numel() for s, _ in strata])
    losses = []
    for (stratum, num_strata), num_tokens, first_E in zip(strata, counts[: len(strata)], per_stratum, strict=True):
        total = num_tokens.clamp(min=1)
        share_E = (first_E / total).to(stratum.prob_sum_E.dtype)
        mean_prob_E = stratum.prob_sum_E / total.to(stratum.prob_sum_E.dtype)
        losses.append(share_E.numel() * (share_E * mean_prob_E).sum() / num_strata)
    return torch.stack(losses).sum() * num_ranks / len(blocks)
