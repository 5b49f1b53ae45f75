"""Ranks whose experts differ in what needs a gradient still start the same exchanges, forward and backward."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from smoe_ds.moe import StratifiedMoE
from smoe_ds.moe.expert_parallel import ExpertParallelDispatcher
from tests.helpers.ranks import run_ranks

D = 8


class Constant(nn.Module):
    """An expert whose output does not depend on its input."""

    def __init__(self) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.ones(D))

    def forward(self, x: Tensor) -> Tensor:
        return self.value.expand(x.shape)


def make_layer(rank: int, world_size: int, **settings: Any) -> StratifiedMoE:
    layer = StratifiedMoE(
        D, 16, [2, 2], ep_size=world_size, ep_rank=rank, exchange_chunks=2, second_expert="argmax",
        expert_init="xavier", **settings,
    )  # fmt: skip
    layer.dispatcher = ExpertParallelDispatcher(dist.group.WORLD, 2)
    return layer


def one_trainable_expert(rank: int, world_size: int) -> list[str]:
    layer = make_layer(rank, world_size)
    for name, parameter in layer.named_parameters():
        parameter.requires_grad_(name.startswith("experts.0."))
    layer(torch.randn(20, D))[0].sum().backward()
    return [name for name, parameter in layer.named_parameters() if parameter.grad is not None]


def constant_experts_on_one_rank(rank: int, world_size: int) -> bool:
    layer = make_layer(rank, world_size, expert=Constant if rank else lambda: nn.Linear(D, D))
    x = torch.randn(20, D, requires_grad=True)
    layer(x)[0].sum().backward()
    assert x.grad is not None
    return bool(torch.isfinite(x.grad).all()) and all(p.grad is not None for p in layer.experts.parameters())


def under_autocast(rank: int, world_size: int, stacked: bool) -> float:
    """Largest distance from the pass without; some ranks have empty chunks."""
    layer = make_layer(rank, world_size, stacked=stacked)
    torch.manual_seed(rank)
    x = torch.randn(20, D, requires_grad=True)
    expected = layer(x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)[0]
    y.float().sum().backward()
    return (y - expected).abs().max().item()


@pytest.mark.multirank
def test_partly_frozen() -> None:
    names = run_ranks(one_trainable_expert, 2)
    assert names == [["experts.0.w1", "experts.0.b1", "experts.0.w2", "experts.0.b2"], []]


@pytest.mark.multirank
def test_output_that_does_not_depend_on_the_rows() -> None:
    assert run_ranks(constant_experts_on_one_rank, 2) == [True, True]


@pytest.mark.multirank
@pytest.mark.parametrize(("world_size", "stacked"), [(2, False), (2, True), (4, True)])
def test_autocast(world_size: int, stacked: bool) -> None:
    for distance in run_ranks(under_autocast, world_size, stacked):
        assert 0 < distance < 0.2
