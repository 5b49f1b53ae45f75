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

from smoe_ds.config.block import BlockSettings
from smoe_ds.config.language_capacity import LanguageCapacity
from smoe_ds.config.model import ModelConfig
from smoe_ds.config.moe import MoeConfig
from smoe_ds.moe.stats import BlockStats, ModelStats, StratumStats

SumCounts = Callable[[Tensor], Tensor]

LOAD_BALANCING = "load_balancing_loss"
CONSISTENCY = "consistency_loss"
"""Name of the loss by which two passes of a micro-batch learn to agree."""
P_PENALTY = "p_penalty_loss"
BALANCING = (LOAD_BALANCING, P_PENALTY)
"""Names of the losses of which a model with a gate has one."""


class Compute(Protocol):
    """A loss as a function of one forward pass; for the arguments see `load_balancing_loss`."""

    def __call__(self, blocks: ModelStats, *, sum_counts: SumCounts | None, num_ranks: int) -> Tensor: ...


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


def auxiliary_losses(moe: MoeConfig, model: ModelConfig) -> tuple[AuxiliaryLoss, ...]:
    """The auxiliary losses of a configuration, in the order in which they are added; none for a plain dense
    model."""
    return (*_auxiliary_losses(moe, list(moe.blocks(model).values())), *_language_losses(model.language_capacity))


def _language_losses(capacity: LanguageCapacity) -> Iterator[AuxiliaryLoss]:
    if capacity.languages:
        compute = partial(language_budget_loss, budget=capacity.share)
        yield AuxiliaryLoss("language_budget_loss", capacity.weight, compute)


def _auxiliary_losses(moe: MoeConfig, blocks: Sequence[BlockSettings]) -> Iterator[AuxiliaryLoss]:
    balanced = any(block.router.balanced for block in blocks)
    if any(block.router.balanced and block.router.uses_load_balancing for block in blocks):
        if moe.balance_loss == "switch":
            yield AuxiliaryLoss(LOAD_BALANCING, moe.load_balancing_weight, load_balancing_loss)
        else:
            yield AuxiliaryLoss(P_PENALTY, moe.load_balancing_weight, p_penalty_loss)
    if moe.router_z_weight and balanced:
        yield AuxiliaryLoss("router_z_loss", moe.router_z_weight, router_z_loss)
    for name, weight in {name: weight for block in blocks for name, weight in block.router.losses().items()}.items():
        if weight:
            yield AuxiliaryLoss(name, weight, partial(token_mean_loss, name=name))
    if any(block.shared_expert == "cmr" for block in blocks):
        yield AuxiliaryLoss("cmr_budget_loss", moe.cmr_weight, partial(cmr_budget_loss, budget=moe.cmr_budget))


def load_balancing_loss(
    blocks: Sequence[BlockStats], sum_counts: SumCounts | None = None, num_ranks: int = 1
) -> Tensor:
    """``E_i * sum_e f_e p_e`` per gate, averaged over the L gates of a block and over blocks; 1 when balanced.

    ``f_e`` is the share of tokens whose first choice is expert e, ``p_e`` the mean gate probability. A gate that saw no
    token contributes 0.

    Args:
        blocks: statistics of every block of one forward pass; those whose router goes without the loss do not count,
            and one at least has it.
        sum_counts: sums a float64 vector over the ranks (no gradient); None: this rank's tokens only.
        num_ranks: ranks that ``sum_counts`` sums over.

    Returns:
        0-dim tensor, float32 or wider.

    Source: Eq. 8 of the paper; the divisor is L (not the number of strata visited) and padding is not counted.
    """
    return _balance_loss(blocks, lambda stratum: stratum.first_choice_E.to(torch.float64), sum_counts, num_ranks)


def p_penalty_loss(blocks: Sequence[BlockStats], sum_counts: SumCounts | None = None, num_ranks: int = 1) -> Tensor:
    """``E_i * sum_e M_e p_e`` per gate, averaged as `load_balancing_loss` is: it prices the width of experts.

    ``M_e`` is the share of tokens that want expert e, as whichever choice, times its width over the mean width of the
    gate's experts. With one choice and equal widths it is the load-balancing loss; with K choices K when balanced.

    Args:
        blocks: statistics of every block of one forward pass; not empty.
        sum_counts: sums a float64 vector over the ranks (no gradient); None: this rank's tokens only.
        num_ranks: ranks that ``sum_counts`` sums over.

    Returns:
        0-dim tensor, float32 or wider.

    Source: HMoE, arXiv 2408.10681, Eq. 4, whose ``M_e`` has the width itself.
    """
    return _balance_loss(blocks, _sized_choices, sum_counts, num_ranks)


def _sized_choices(stratum: StratumStats) -> Tensor:
    """Choices of each expert times its relative width [E], float64."""
    wanted_E = stratum.requested_KE.sum(0).to(torch.float64)
    if stratum.widths_E is None:
        return wanted_E
    widths_E = stratum.widths_E.to(torch.float64)
    return wanted_E * (widths_E / widths_E.mean())


def _balance_loss(
    blocks: Sequence[BlockStats],
    load_of: Callable[[StratumStats], Tensor],
    sum_counts: SumCounts | None,
    num_ranks: int,
) -> Tensor:
    """``E_i * sum_e (load_e / T_i) p_e`` per gate, averaged over the L gates of a block and over blocks.

    Args:
        blocks: as of `load_balancing_loss`.
        load_of: the load of each expert [E], float64, without gradient.
        sum_counts: as of `load_balancing_loss`.
        num_ranks: as of `load_balancing_loss`.
    """
    blocks = [block for block in blocks if all(stratum.uses_load_balancing for stratum in block.strata)]
    strata = _strata(blocks)
    device = strata[0][0].prob_sum_E.device
    counts = torch.cat([_num_tokens(strata, device), *(load_of(s) for s, _ in strata)])
    if sum_counts is not None:
        counts = sum_counts(counts)
    per_stratum = counts[len(strata) :].split([s.prob_sum_E.numel() for s, _ in strata])
    losses = []
    for (stratum, num_strata), num_tokens, load_E in zip(strata, counts[: len(strata)], per_stratum, strict=True):
        total = num_tokens.clamp(min=1)
        share_E = (load_E / total).to(stratum.prob_sum_E.dtype)
        mean_prob_E = stratum.prob_sum_E / total.to(stratum.prob_sum_E.dtype)
        losses.append(share_E.numel() * (share_E * mean_prob_E).sum() / num_strata)
    return torch.stack(losses).sum() * num_ranks / _num_blocks(blocks)


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
    return torch.stack(losses).sum() * num_ranks / _num_blocks(blocks)


def token_mean_loss(
    blocks: Sequence[BlockStats], name: str, sum_counts: SumCounts | None = None, num_ranks: int = 1
) -> Tensor:
    """A router's own loss: the mean over tokens of what its gates summed up, averaged as `router_z_loss` is.

    Args:
        blocks: statistics of every block of one forward pass; at least one has such sums.
        name: of the sums, see :class:`smoe_ds.moe.stats.StratumStats`.
        sum_counts: sums a float64 vector over the ranks (no gradient); None: this rank's tokens only.
        num_ranks: ranks that ``sum_counts`` sums over.

    Returns:
        0-dim tensor; a gate that saw no token contributes 0.
    """
    strata = [(stratum, len(block.strata)) for block in blocks for stratum in block.strata if name in stratum.sums]
    num_tokens = _num_tokens(strata, strata[0][0].sums[name].device)
    if sum_counts is not None:
        num_tokens = sum_counts(num_tokens)
    losses = [
        stratum.sums[name] / total.clamp(min=1).to(stratum.sums[name].dtype) / num_strata
        for (stratum, num_strata), total in zip(strata, num_tokens, strict=True)
    ]
    with_it = sum(any(name in stratum.sums for stratum in block.strata) for block in blocks)
    return torch.stack(losses).sum() * num_ranks / with_it


def cmr_budget_loss(
    blocks: Sequence[BlockStats], budget: float, sum_counts: SumCounts | None = None, num_ranks: int = 1
) -> Tensor:
    """``|mean gate - budget|`` averaged over the blocks with a CMR gate.

    Args:
        blocks: statistics of every block of one forward pass; at least one has a CMR gate.
        budget: share of the routed experts that is aimed at, between 0 and 1.
        sum_counts: sums a float64 vector over the ranks (no gradient); None: this rank's tokens only.
        num_ranks: ranks that ``sum_counts`` sums over.

    Returns:
        0-dim tensor, float32 or wider; 0 for a block without tokens.

    Source: NLLB, arXiv 2207.04672, 6.2.2.
    """
    blocks = [block for block in blocks if block.cmr_gate_sum is not None]
    own = torch.stack([block.cmr_gate_sum for block in blocks if block.cmr_gate_sum is not None])
    tokens = torch.tensor([block.num_tokens for block in blocks], dtype=torch.float64, device=own.device)
    return _off_budget(own, tokens, budget, sum_counts) * num_ranks / len(blocks)


def language_budget_loss(
    blocks: ModelStats, budget: float, sum_counts: SumCounts | None = None, num_ranks: int = 1
) -> Tensor:
    """``|mean gate - budget|`` over all tokens and sub-layers of a model with language-specific parts.

    Args:
        blocks: statistics of one forward pass.
        budget: share of the gates that should be open, between 0 and 1.
        sum_counts: sums a float64 vector over the ranks (no gradient); None: this rank's tokens only.
        num_ranks: ranks that ``sum_counts`` sums over.

    Returns:
        0-dim tensor, float32 or wider.

    Source: CLSR, Zhang et al., ICLR 2021, Eq. 8.
    """
    assert blocks.language_gates is not None
    gate_sum, number = blocks.language_gates.split(1)
    return _off_budget(gate_sum, number.detach().to(torch.float64), budget, sum_counts) * num_ranks


def _off_budget(own: Tensor, numbers: Tensor, budget: float, sum_counts: SumCounts | None) -> Tensor:
    """This rank's share of ``|mean - budget|``, summed over the means.

    Args:
        own: sums of this rank, with gradient.
        numbers: of the summands, float64.
        budget: what the means should be.
        sum_counts: sums a float64 vector over the ranks.
    """
    whole = torch.cat([own.detach().to(torch.float64), numbers])
    if sum_counts is not None:
        whole = sum_counts(whole)
    sums, total = whole.split(len(numbers))
    # The value of one rank's share: linear in its own gates, with the sign that the mean over all tokens has.
    sign = torch.sign(sums - budget * total).to(own.dtype)
    share = (own - budget * numbers.to(own.dtype)) / total.clamp(min=1).to(own.dtype)
    return (sign * share).sum()


def _strata(blocks: Sequence[BlockStats]) -> list[tuple[StratumStats, int]]:
    """Every stratum whose gate has probabilities, with the number of strata of its block."""
    return [(stratum, len(block.strata)) for block in blocks for stratum in block.strata if stratum.balanced]


def _num_blocks(blocks: Sequence[BlockStats]) -> int:
    """Blocks whose gates have probabilities."""
    return sum(any(stratum.balanced for stratum in block.strata) for block in blocks)


def _num_tokens(strata: Sequence[tuple[StratumStats, int]], device: torch.device) -> Tensor:
    return torch.tensor([s.num_tokens for s, _ in strata], dtype=torch.float64, device=device)
