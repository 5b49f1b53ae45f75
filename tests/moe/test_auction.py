"""The auction against all assignments there are, and where two experts make the best one plain."""

from __future__ import annotations

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from smoe_ds.moe.auction import balanced_assignment


def step_of(scores_TE: Tensor) -> float:
    return max(float(scores_TE.max() - scores_TE.min()) / 50, 1e-4)


def total(scores_TE: Tensor, expert_T: Tensor) -> float:
    return float(scores_TE.gather(1, expert_T.unsqueeze(1)).sum())


def largest_total(scores_TE: Tensor) -> float:
    """The best of all assignments in which no expert has more than its share."""
    num_tokens, num_experts = scores_TE.shape
    share, rows = math.ceil(num_tokens / num_experts), scores_TE.tolist()
    return max(
        sum(row[expert] for row, expert in zip(rows, experts, strict=True))
        for experts in product(range(num_experts), repeat=num_tokens)
        if all(experts.count(expert) <= share for expert in range(num_experts))
    )


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("num_tokens", "num_experts"), [(1, 3), (4, 4), (5, 4), (6, 3), (7, 3), (8, 2)])
def test_is_as_good_as_the_best_but_for_the_steps(num_tokens: int, num_experts: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(num_tokens, num_experts, generator=generator, dtype=torch.float64)
    scores += torch.tensor([2.0] + [0.0] * (num_experts - 1))  # more want the first expert than it may have
    expert_T = balanced_assignment(scores)
    assert expert_T.bincount(minlength=num_experts).max() <= math.ceil(num_tokens / num_experts)
    assert total(scores, expert_T) >= largest_total(scores) - num_tokens * step_of(scores)


@pytest.mark.parametrize("num_tokens", [40, 99, 400, 1001])
def test_two_experts_share_by_the_difference_of_their_scores(num_tokens: int) -> None:
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(num_tokens, 2, generator=generator, dtype=torch.float64) + torch.tensor([1.5, 0.0])
    expert_T = balanced_assignment(scores)
    share = math.ceil(num_tokens / 2)
    first = (scores[:, 0] - scores[:, 1]).sort(descending=True).indices[:share]
    best_T = torch.ones(num_tokens, dtype=torch.long)
    best_T[first] = 0
    assert expert_T.bincount(minlength=2).tolist() in ([share, num_tokens - share], [num_tokens - share, share])
    steps = num_tokens if num_tokens < 50 else 2 * num_tokens
    assert total(scores, expert_T) >= total(scores, best_T) - steps * step_of(scores)
    assert total(scores, expert_T) > total(scores, torch.arange(num_tokens) % 2) + num_tokens / 4


@pytest.mark.parametrize("num_experts", [2, 8, 64])
@pytest.mark.parametrize("kind", ["equal tokens", "equal scores", "few kinds", "one wanted", "not finite"])
def test_ends_with_equal_loads_whatever_the_scores(kind: str, num_experts: int) -> None:
    generator = torch.Generator().manual_seed(2)
    scores = torch.randn(1024, num_experts, generator=generator)
    if kind == "equal tokens":
        scores[:] = scores[0].clone()
    elif kind == "equal scores":
        scores[:] = 3.0
    elif kind == "few kinds":
        scores = scores[:3][torch.arange(1024) % 3]
    elif kind == "one wanted":
        scores[:, -1] += 1e6
    else:
        scores[5] = torch.nan
    loads = balanced_assignment(scores).bincount(minlength=num_experts)
    assert loads.tolist() == [1024 // num_experts] * num_experts


def test_forbidden_experts_get_nothing_and_the_others_equal_loads() -> None:
    scores = torch.randn(60, 5, generator=torch.Generator().manual_seed(3))
    for forbidden in ([True, False, False, True, False], [True, True, True, False, True]):
        loads = balanced_assignment(scores, torch.tensor(forbidden)).bincount(minlength=5).tolist()
        assert loads == [0 if no else 60 // forbidden.count(False) for no in forbidden]


def test_no_token_and_one_expert() -> None:
    assert balanced_assignment(torch.zeros(0, 4)).shape == (0,)
    assert balanced_assignment(torch.randn(5, 1)).tolist() == [0] * 5
