"""What a stratified block costs, from its sizes alone: strata visited, parameters, FLOPs, rows per rank.

All of it holds for uniform routing, where every expert that a gate sees is as likely to be chosen.
"""

from __future__ import annotations

from collections.abc import Sequence

from smoe_ds.moe.placement import Placement

IMBALANCE_LIMIT = 1.05
"""Expected rows of the busiest rank over the mean, above which another ``ep_size`` is proposed."""


def stratum_shares(strata: Sequence[int], *, stacked: bool = False) -> list[float]:
    """Expected share of a block's tokens that enter each stratum.

    Args:
        strata: experts per stratum, first stratum first, e.g. ``[4, 12]``.
        stacked: every token passes every stratum.

    Returns:
        One number per stratum, the first is 1; their sum is the expected requested capacity.

    Source: a token in stratum i goes on to stratum j + 1 with probability ``n_j / E_i`` (Eq. 5-6 of the paper).
    """
    if stacked:
        return [1.0] * len(strata)
    shares = [1.0] + [0.0] * (len(strata) - 1)
    for i in range(len(strata) - 1):
        visible = sum(strata[i:])
        for j in range(i, len(strata) - 1):
            shares[j + 1] += shares[i] * strata[j] / visible
    return shares


def expected_strata(strata: Sequence[int], *, stacked: bool = False) -> float:
    """Mean number of strata a token passes, its expected requested capacity; 0 without experts.

    Args:
        strata: experts per stratum, first stratum first.
        stacked: every token passes every stratum.

    Returns:
        N_1 of the recursion ``N_i = 1 + sum_{j >= i} (n_j / E_i) N_{j+1}``, between 1 and ``len(strata)``.

    Source: derived from Eq. 5-6; reproduces the FLOPs column of the paper's tables.
    """
    return sum(stratum_shares(strata, stacked=stacked)) if strata else 0.0


def paper_parameters(
    d_model: int, d_ffn: int, vocab_size: int, num_experts: int, *, shared_expert: bool = False, layers: int = 6
) -> int:
    """Parameters as the paper's tables count them: matrices only, every second layer has experts.

    Args:
        d_model: width D.
        d_ffn: inner width F.
        vocab_size: V, of one shared embedding.
        num_experts: experts of a block, 1 for a dense model.
        shared_expert: a block has one more feed-forward network, as in CMR.
        layers: layers of the encoder, and of the decoder.

    Source: reproduces the parameter column of the paper's tables.
    """
    ffn = 2 * d_model * d_ffn
    attention = layers * 4 * d_model**2 + layers * 8 * d_model**2
    extra = num_experts - 1 + (1 if shared_expert else 0)
    return attention + 2 * layers * ffn + vocab_size * d_model + layers * extra * ffn


def extra_flops_per_token(d_model: int, d_ffn: int, ffns_per_token: float, blocks: int) -> float:
    """Forward FLOPs per token that a model with blocks of experts has over its dense twin.

    Args:
        d_model: width D.
        d_ffn: inner width F.
        ffns_per_token: feed-forward networks a token visits in a block, ``top_k`` times its strata.
        blocks: blocks that a token passes (of encoder or decoder; the paper counts all 6 of both).

    Returns:
        ``blocks * (ffns_per_token - 1) * 4 D F``: two products of D times F, two operations each.
    """
    return blocks * (ffns_per_token - 1) * 4 * d_model * d_ffn


def stratum_imbalances(strata: Sequence[int], ep_size: int, *, stacked: bool = False) -> list[float]:
    """Expected rows of the busiest rank over the mean of the ranks, in each stratum.

    Args:
        strata: experts per stratum, first stratum first.
        ep_size: ranks that share the experts, expert e on rank ``e % ep_size``.
        stacked: a gate sees its own stratum only.
    """
    placement = Placement(tuple(strata), ep_size, stacked)
    imbalances = []
    for i in range(len(strata)):
        per_rank = [len(placement.local_experts(rank, i)) for rank in range(ep_size)]
        imbalances.append(max(per_rank) * ep_size / sum(per_rank))
    return imbalances


def placement_imbalance(strata: Sequence[int], ep_size: int, *, stacked: bool = False) -> float:
    """Expected time of a block's experts over that of a perfect spread: ranks wait for the busiest in every stratum.

    Args:
        strata: experts per stratum, first stratum first.
        ep_size: ranks that share the experts.
        stacked: a gate sees its own stratum only.

    Returns:
        The mean of the strata's imbalances, weighted by their tokens; 1 is perfect.
    """
    shares = stratum_shares(strata, stacked=stacked)
    imbalances = stratum_imbalances(strata, ep_size, stacked=stacked)
    return sum(s * b for s, b in zip(shares, imbalances, strict=True)) / sum(shares)


def better_ep_sizes(strata: Sequence[int], ep_size: int, *, stacked: bool = False) -> list[int]:
    """Expert-parallel sizes up to ``ep_size`` whose imbalance is within :data:`IMBALANCE_LIMIT`, largest first."""
    sizes = [n for n in range(ep_size, 0, -1) if sum(strata) % n == 0]
    return [n for n in sizes if placement_imbalance(strata, n, stacked=stacked) <= IMBALANCE_LIMIT]


def exchanged_bytes(
    strata: Sequence[int],
    ep_size: int,
    tokens: float,
    d_model: int,
    top_k: int,
    itemsize: int,
    *,
    stacked: bool = False,
) -> float:
    """Bytes one rank sends for one block, one micro-batch, forward and backward.

    A row crosses four times: to the expert and back, and so do the gradients. Counts are left out (below 1 KiB).

    Args:
        strata: experts per stratum, first stratum first.
        ep_size: ranks that share the experts.
        tokens: tokens of the rank that enter the block.
        d_model: width D.
        top_k: experts per token and stratum.
        itemsize: bytes per element of a row.
        stacked: a gate sees its own stratum only.
    """
    rows = tokens * expected_strata(strata, stacked=stacked) * top_k
    return 4 * rows * (1 - 1 / ep_size) * d_model * itemsize
