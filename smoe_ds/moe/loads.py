"""How many tokens and rows each stratum of a block gets, from the strata and where the experts lie.

All of it holds for uniform routing, where every expert that a gate sees is as likely to be chosen, and none is so full
that it drops rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from smoe_ds.config.block import BlockSettings
from smoe_ds.moe.placement import Placement

IMBALANCE_LIMIT = 1.05
"""Expected rows of the busiest rank over the mean, above which another ``ep_size`` is proposed."""


@dataclass(frozen=True)
class StratumLoad:
    """One stratum of one block, one micro-batch of one rank.

    Attributes:
        tokens: tokens of the rank that enter.
        rows: rows for experts that they make.
        busiest_rows: rows that the busiest rank computes; the others wait for it.
        busiest_experts: experts that it computes them with.
        sent_rows: rows that a rank sends to others, mean of the ranks; as many come.
        busiest_sent_rows: rows that the rank with most traffic in one direction sends or gets.
    """

    tokens: float
    rows: float
    busiest_rows: float
    busiest_experts: int
    sent_rows: float
    busiest_sent_rows: float

    def exchanged_bytes(self, row_bytes: int, forwards: int = 1) -> float:
        """Bytes that a rank sends, forward and backward; mean of the ranks.

        A row goes to its expert and its output comes back, and so do their gradients. Counts are left out (below
        1 KiB).

        Args:
            row_bytes: bytes of a row.
            forwards: forward passes: 2 with activation checkpointing.
        """
        return (2 * forwards + 2) * self.sent_rows * row_bytes


def stratum_shares(strata: Sequence[int], *, stacked: bool = False) -> list[float]:
    """Expected share of a block's tokens that enter each stratum.

    Args:
        strata: experts per stratum, first stratum first, e.g. ``[4, 12]``.
        stacked: every token passes every stratum.

    Returns:
        One number per stratum, the first is 1; their sum is the expected requested capacity.

    Source: a token in stratum i goes on to stratum j + 1 with probability ``n_j / E_i`` (Eq. 5-6 of the paper).
    """
    if stacked or not strata:
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
    return sum(stratum_shares(strata, stacked=stacked))


def block_loads(
    block: BlockSettings, ep_size: int = 1, tokens: float = 1.0, requested_capacity: float | None = None
) -> tuple[StratumLoad, ...]:
    """What each stratum of a block gets; arguments as of :func:`stratum_loads`, rows as its router expects them.

    In a block with heads the loads count slices of tokens.
    """
    placement = Placement(tuple(block.strata), ep_size, block.stacked)
    visible = [len(placement.visible_experts(i)) for i in range(len(block.strata))]
    choices = [block.router.mean_choices(block, number) for number in visible]
    return stratum_loads(placement, tokens * block.heads, choices, requested_capacity)


def ffns_per_token(block: BlockSettings) -> float:
    """Feed-forward networks that a token visits in a block, the shared one included, uniform routing; those that its
    slices visit, in a block with heads."""
    visits = (load.rows if block.experts.per_row else load.tokens for load in block_loads(block))
    return sum(visits) + block.heads * (block.shared_expert != "none")


def stratum_loads(
    placement: Placement,
    tokens: float = 1.0,
    choices: float | Sequence[float] = 1,
    requested_capacity: float | None = None,
) -> tuple[StratumLoad, ...]:
    """What each stratum of a block gets.

    Args:
        placement: strata, and the ranks that share their experts.
        tokens: tokens of one rank that enter the block, T.
        choices: rows that a token makes in a stratum, K; one number, or one for each stratum.
        requested_capacity: mean strata per token where it was measured; None: as expected of uniform routing. The
            strata after the first are then entered by as many tokens more or less.
    """
    shares = stratum_shares(placement.strata, stacked=placement.stacked)
    if requested_capacity is not None and len(shares) > 1:
        later = (requested_capacity - 1) / (sum(shares) - 1)
        shares = [1.0, *(share * later for share in shares[1:])]
    rows = [choices] * len(shares) if isinstance(choices, int | float) else choices
    return tuple(_load(placement, i, tokens * share, rows[i]) for i, share in enumerate(shares))


def _load(placement: Placement, stratum: int, tokens: float, choices: float) -> StratumLoad:
    visible, ranks = len(placement.visible_experts(stratum)), range(placement.ep_size)
    local = [len(placement.local_experts(rank, stratum)) for rank in ranks]
    rows = tokens * choices
    others = placement.ep_size - 1
    sent = [rows * (visible - own) / visible for own in local]
    received = [others * rows * own / visible for own in local]
    return StratumLoad(
        tokens=tokens,
        rows=rows,
        busiest_rows=placement.ep_size * rows * max(local) / visible,
        busiest_experts=max(local),
        sent_rows=sum(sent) / len(sent),
        busiest_sent_rows=max(*sent, *received),
    )


def stratum_imbalances(placement: Placement) -> list[float]:
    """Expected rows of the busiest rank over the mean of the ranks, in each stratum."""
    return [load.busiest_rows / load.rows for load in stratum_loads(placement)]


def placement_imbalance(placement: Placement) -> float:
    """Expected time of a block's experts over that of a perfect spread: ranks wait for the busiest in every stratum.

    Returns:
        The mean of the strata's imbalances, weighted by their tokens; 1 is perfect.
    """
    loads = stratum_loads(placement)
    return sum(load.busiest_rows for load in loads) / sum(load.rows for load in loads)


def better_ep_sizes(placement: Placement) -> list[int]:
    """Expert-parallel sizes up to the placement's whose imbalance is within :data:`IMBALANCE_LIMIT`, largest first."""
    sizes = [n for n in range(placement.ep_size, 0, -1) if placement.num_experts % n == 0]
    spread = [Placement(placement.strata, n, placement.stacked) for n in sizes]
    return [one.ep_size for one in spread if placement_imbalance(one) <= IMBALANCE_LIMIT]
