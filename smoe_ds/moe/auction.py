"""A balanced assignment of tokens to experts by an auction."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from smoe_ds.moe.capacity import count_values

_STEPS_OF_RANGE = 50
_LEAST_STEP = 1e-4
_LEFT_OVER = 50  # every so many tokens one may be unserved at the end: costs no more than the steps do
_MAX_ROUNDS = 256
_ROUNDS_PER_LOOK = 8  # each look at who is unserved waits for the device


@dataclass(frozen=True)
class _Bids:
    """State of an auction.

    Attributes:
        expert_T: the expert that each token has a place with; E for none.
        bid_T: what it offered.
        price_E: the lowest bid that has a place, 0 while there are places left.
    """

    expert_T: Tensor
    bid_T: Tensor
    price_E: Tensor


def balanced_assignment(scores_TE: Tensor, forbidden_E: Tensor | None = None) -> Tensor:
    """The expert of each token, none with more than ``ceil(T / E)``, for nearly the largest sum of scores.

    Tokens bid for places. In each round all tokens without one bid for the expert of the best value, which is score
    less price: as much as would make the second best as good, and a step more. An expert keeps its highest bids. With
    fewer than 50 tokens the sum is within T steps of the largest one, a step being a fiftieth of the range of the
    scores and 1e-4 at least. With more it is within 2 T steps, because a fiftieth of the tokens get any free place.
    After 256 rounds all that are left do. Places that stay free are the rows without preference that would fill up T
    to a multiple of E.

    Args:
        scores_TE: [T, E], finite; T may be 0.
        forbidden_E: True where an expert takes no token [E]; E counts the others only.

    Returns:
        int64 [T]; equal bids go to the lower token, equal values to any expert.

    Source: the auction for transportation problems, Bertsekas and Castanon (1989), all bidders at once; the problem is
    Eq. 2 of arXiv 2103.16716.
    """
    num_tokens, num_experts = scores_TE.shape
    if num_tokens == 0 or num_experts == 1:
        return torch.zeros(num_tokens, dtype=torch.long, device=scores_TE.device)
    if forbidden_E is None:
        forbidden_E = torch.zeros(num_experts, dtype=torch.bool, device=scores_TE.device)
    capacity = torch.ceil(num_tokens / (~forbidden_E).sum().double()).long()
    gain_TE = scores_TE - scores_TE.amin()
    span = gain_TE.amax()
    step = (span / _STEPS_OF_RANGE).clamp(min=_LEAST_STEP)
    gain_TE = gain_TE.masked_fill(forbidden_E, -torch.inf)
    bids = _Bids(
        torch.full((num_tokens,), num_experts, device=scores_TE.device),
        scores_TE.new_zeros(num_tokens),
        scores_TE.new_zeros(num_experts),
    )
    for number in range(_MAX_ROUNDS):
        if number % _ROUNDS_PER_LOOK == 0 and int((bids.expert_T == num_experts).sum()) <= num_tokens // _LEFT_OVER:
            break
        bids = _round(gain_TE, bids, capacity, step, span)
    return _fill(bids.expert_T, torch.where(forbidden_E, 0, capacity))


def _round(gain_TE: Tensor, bids: _Bids, capacity: Tensor, step: Tensor, span: Tensor) -> _Bids:
    """All tokens without a place bid, and each expert keeps its highest bids."""
    num_tokens, num_experts = gain_TE.shape
    value_T2, expert_T2 = (gain_TE - bids.price_E).topk(2, dim=1)
    best_T, second_T = value_T2.unbind(1)
    second_T = second_T.maximum(best_T - span)  # finite if there is no second
    bidding_T = bids.expert_T == num_experts
    bid_T = torch.where(bidding_T, bids.price_E[expert_T2[:, 0]] + best_T - second_T + step, bids.bid_T)
    wanted_T = torch.where(bidding_T, expert_T2[:, 0], bids.expert_T)

    by_bid_T = bid_T.argsort(descending=True, stable=True)
    sorted_T, order = wanted_T[by_bid_T].sort(stable=True)
    token_T = by_bid_T[order]
    count_E = count_values(wanted_T, num_experts)
    start_E = count_E.cumsum(0) - count_E
    rank_T = torch.arange(num_tokens, device=gain_TE.device) - start_E[sorted_T]
    expert_T = torch.empty_like(wanted_T)
    expert_T[token_T] = torch.where(rank_T < capacity, sorted_T, num_experts)
    last_E = (start_E + capacity - 1).clamp(max=num_tokens - 1)
    price_E = torch.where(count_E >= capacity, bid_T[token_T[last_E]], bids.price_E)
    return _Bids(expert_T, bid_T, price_E)


def _fill(expert_T: Tensor, capacity_E: Tensor) -> Tensor:
    """Tokens without a place get the free ones, in order."""
    num_experts = capacity_E.shape[0]
    free_E = capacity_E - count_values(expert_T, num_experts + 1)[:-1]
    without_T = expert_T == num_experts
    number_T = without_T.cumsum(0) - 1
    place_T = torch.searchsorted(free_E.cumsum(0), number_T, right=True)
    return torch.where(without_T, place_T, expert_T)
