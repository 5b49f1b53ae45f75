"""Random strata, token counts (none at all included), settings and chunks on real ranks against one process."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from smoe_ds.moe import StratifiedMoE
from smoe_ds.moe.expert_parallel import ExpertParallelDispatcher
from tests.helpers.layers import noisy_layer
from tests.helpers.ranks import run_ranks

D, F = 6, 10
Case = dict[str, Any]
CASE = st.fixed_dictionaries(
    {
        "strata": st.lists(st.integers(1, 4), min_size=1, max_size=4).map(
            lambda strata: [*strata[:-1], strata[-1] + 1]
        ),
        "tokens": st.lists(st.integers(0, 9), min_size=4, max_size=4),
        "padded": st.lists(st.integers(0, 2), min_size=4, max_size=4),
        "capacity_factor": st.sampled_from([None, 0.5, 2.0]),
        "norm": st.sampled_from(["paper", "released"]),
        "activation": st.sampled_from(["relu", "gelu", "swiglu"]),
        "exchange_chunks": st.integers(1, 3),
        "top_k": st.integers(1, 2),
    }
)


def make_layer(case: Case, ep_size: int = 1, ep_rank: int = 0) -> StratifiedMoE:
    """The case's layer; its number of experts is made a multiple of four, so that every ``ep_size`` fits."""
    strata = [*case["strata"][:-1], case["strata"][-1] + -sum(case["strata"]) % 4]
    names = ("capacity_factor", "norm", "activation", "exchange_chunks", "top_k")
    options = {name: case[name] for name in names}
    return noisy_layer(D, F, strata, ep_size=ep_size, ep_rank=ep_rank, **options)


def make_input(case: Case, rank: int) -> tuple[Tensor, Tensor]:
    tokens, padded = case["tokens"][rank], case["padded"][rank]
    x = torch.randn(tokens + padded, D, generator=torch.Generator().manual_seed(rank), dtype=torch.float64)
    return x.requires_grad_(), torch.arange(tokens + padded) < padded


def backward(y: Tensor) -> None:
    (y * torch.linspace(-1, 1, max(y.numel(), 1), dtype=y.dtype)[: y.numel()].view_as(y)).sum().backward()


def on_rank(rank: int, world_size: int, ep_size: int, cases: list[Case]) -> list[tuple[Tensor, Tensor, dict]]:
    groups = [dist.new_group(list(range(r, r + ep_size))) for r in range(0, world_size, ep_size)]
    results = []
    for case in cases:
        layer = make_layer(case, ep_size, rank % ep_size)
        layer.dispatcher = ExpertParallelDispatcher(groups[rank // ep_size], case["exchange_chunks"])
        x, padding = make_input(case, rank)
        y, _ = layer(x, padding)
        backward(y)
        assert x.grad is not None
        results.append((y.detach(), x.grad, {name: p.grad for name, p in layer.named_parameters()}))
    return results


@pytest.mark.multirank
@pytest.mark.parametrize(("world_size", "ep_size"), [(2, 2), (4, 2), (4, 4)])
@settings(max_examples=3, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(cases=st.lists(CASE, min_size=15, max_size=15))
def test_equals_one_process(world_size: int, ep_size: int, cases: list[Case]) -> None:
    per_rank = run_ranks(on_rank, world_size, ep_size, cases)
    for number, case in enumerate(cases):
        layer = make_layer(case)
        for rank in range(world_size):
            x, padding = make_input(case, rank)
            expected = layer(x, padding)[0]
            backward(expected)
            y, x_grad, _ = per_rank[rank][number]
            torch.testing.assert_close(y, expected.detach(), rtol=1e-12, atol=1e-12, msg=f"{case}")
            torch.testing.assert_close(x_grad, x.grad, rtol=1e-11, atol=1e-11, msg=f"{case}")
        for name, parameter in layer.named_parameters():
            grads = [results[number][2] for results in per_rank]
            total = sum(grad[name] for grad in grads if name in grad)
            torch.testing.assert_close(total, parameter.grad, rtol=1e-11, atol=1e-11, msg=f"{case} {name}")
