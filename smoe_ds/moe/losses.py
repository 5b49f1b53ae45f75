"""Auxiliary losses over one rank's or all ranks' tokens, and which of them a configuration adds to the loss.

With ``sum_counts`` a loss is taken over the tokens of all ranks: the mean of the returned values over the ranks is then
the loss of the whole batch, and its gradient the gradient of that. One exchange serves all blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor

from smoe_ds.config.moe import MoeConfig
from smoe_ds.moe.stats import BlockStats, StratumStats

SumCounts = Callable[[Tensor], Tensor]

LOAD_BALANCING = "load_balancing_loss"
"""Name of the loss that every model with experts has."""


class Compute(Protocol):
    """A loss as a function of one forward pass; for the arguments see `load_balancing_loss`."""

    def __call__(self, blocks: Sequence[BlockStats], *, sum_counts: SumCounts | None, num_ranks: int) -> Tensor: ...


@dataclass(frozen=True)
class AuxiliaryLoss:
    """A term that the blocks add to the loss.

    Attributes:
        name: what it is logged as, ``train/NAME``.
        weight: its factor in the loss.
        compute: its value, unweighted.
    """

    name: str
    weight: float
    compute: Compute


def auxiliary_losses(moe: MoeConfig) -> tuple[AuxiliaryLoss, ...]:
    """The auxiliary losses of a configuration, in the order in which they are added; none for a dense model."""
    return () if moe.is_dense else tuple(_auxiliary_losses(moe))


def _auxiliary_losses(moe: MoeConfig) -> Iterator[AuxiliaryLoss]:
    yield AuxiliaryLoss(LOAD_BALANCING, moe.load_balancing_weight, load_balancing_loss)
    if moe.router_z_weight:
        yield AuxiliaryLoss("router_z_loss", moe.router_z_weight, router_z_loss)
    if moe.shared_expert == "cmr":
        yield AuxiliaryLoss("cmr_budget_loss", moe.cmr_weight, partial(cmr_budget_loss, budget=moe.cmr_budget))


def load_balancing_loss(
    blocks: Sequence[BlockStats], sum_counts: SumCounts | None = None, num_ranks: int = 1
) -> Tensor:
    """``E_i * sum_e f_e p_e`` per gate, averaged over the L gates of a block and over blocks; 1 when balanced.

    ``f_e`` is the share of tokens whose first choice is expert e, ``p_e`` the mean gate probability. A gate that saw no
    token contributes 0.

    Args:
        blocks: statistics of every block of one forward pass; not empty.
        sum_counts: sums a float64 vector over the ranks (no gradient); None: this rank's tokens only.
        num_ranks: ranks that ``sum_counts`` sums over.

    Returns:
        0-dim tensor, float32 or wider.

    Source: Eq. 8 of the paper; the divisor is L (not the number of strata visited) and padding is not counted.
    """
    strata = _strata(blocks)
    device = strata[0][0].prob_sum_E.device
    counts = torch.cat([_num_tokens(strata, device), *(s.first_choice_E.to(torch.float64) for s, _ in strata)])
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


def router_z_loss(blocks: Sequence[BlockStats], sum_counts: SumCounts | None = None, num_ranks: int = 1) -> Tensor:
    """Mean squared log-sum-exp of the logits per gate, averaged over the L gates of a block and over blocks.

    It keeps logits small, so that the softmax does not saturate. A gate that saw no token contributes 0.

    Args:
        blocks: statistics of every block of one forward pass; not empty.
        sum_counts: sums a float64 vector over the ranks (no gradient); None: this rank's tokens only.
        num_ranks: ranks that ``sum_counts`` sums over.

    Returns:
        0-dim tensor, float32 or wider.

    Source: ST-MoE, arXiv 2202.08906, Eq. 5.
    """
    strata = _strata(blocks)
    num_tokens = _num_tokens(strata, strata[0][0].z_sum.device)
    if sum_counts is not None:
        num_tokens = sum_counts(num_tokens)
    losses = [
        stratum.z_sum / total.clamp(min=1).to(stratum.z_sum.dtype) / num_strata
        for (stratum, num_strata), total in zip(strata, num_tokens, strict=True)
    ]
    return torch.stack(losses).sum() * num_ranks / len(blocks)


def cmr_budget_loss(
    blocks: Sequence[BlockStats], budget: float, sum_counts: SumCounts | None = None, num_ranks: int = 1
) -> Tensor:
    """``|mean gate - budget|`` averaged over the blocks with a CMR gate.

    Args:
        blocks: statistics of every block of one forward pass, all with a CMR gate; not empty.
        budget: share of the routed experts that is aimed at, between 0 and 1.
        sum_counts: sums a float64 vector over the ranks (no gradient); None: this rank's tokens only.
        num_ranks: ranks that ``sum_counts`` sums over.

    Returns:
        0-dim tensor, float32 or wider; 0 for a block without tokens.

    Source: NLLB, arXiv 2207.04672, 6.2.2.
    """
    gate_sums = [block.cmr_gate_sum for block in blocks if block.cmr_gate_sum is not None]
    own = torch.stack(gate_sums)
    tokens = torch.tensor([block.num_tokens for block in blocks], dtype=torch.float64, device=own.device)
    whole = torch.cat([own.detach().to(torch.float64), tokens])
    if sum_counts is not None:
        whole = sum_counts(whole)
    sums, total = whole.split(len(blocks))
    # The value of one rank's share: linear in its own gates, with the sign that the mean over all tokens has.
    sign = torch.sign(sums - budget * total).to(own.dtype)
    share = (own - budget * tokens.to(own.dtype)) / total.clamp(min=1).to(own.dtype)
    return (sign * share).sum() * num_ranks / len(blocks)


def _strata(blocks: Sequence[BlockStats]) -> list[tuple[StratumStats, int]]:
    """Every stratum with the number of strata of its block."""
    return [(stratum, len(block.strata)) for block in blocks for stratum in block.strata]


def _num_tokens(strata: Sequence[tuple[StratumStats, int]], device: torch.device) -> Tensor:
    return torch.tensor([s.num_tokens for s, _ in strata], dtype=torch.float64, device=device)
