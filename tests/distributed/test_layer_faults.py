"""What goes wrong on one rank ends all of them, with that rank's error."""

from __future__ import annotations

import time

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from smoe_ds.errors import NonFiniteError
from smoe_ds.moe import StratifiedMoE
from smoe_ds.moe.expert_parallel import ExpertParallelDispatcher
from tests.helpers.ranks import RankError, run_ranks


class Failing(nn.Module):
    """An expert that fails."""

    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("the expert of rank 1 is broken")


def make(rank: int, world_size: int, expert: object = None) -> StratifiedMoE:
    layer = StratifiedMoE(8, 16, [2, 2], ep_size=world_size, ep_rank=rank, name="block", expert=expert)
    layer.dispatcher = ExpertParallelDispatcher(dist.group.WORLD)
    return layer


def not_a_number(rank: int, world_size: int) -> str:
    x = torch.randn(6, 8)
    if rank == 1:
        x[0, 0] = torch.nan
    try:
        make(rank, world_size)(x)
    except NonFiniteError as error:
        return str(error)
    return "no error"


def broken_expert(rank: int, world_size: int) -> None:
    make(rank, world_size, Failing if rank == 1 else None)(torch.randn(6, 8))


@pytest.mark.multirank
def test_not_a_number_on_one_rank_is_told_to_all() -> None:
    for message in run_ranks(not_a_number, 2):
        assert "block: the input of stratum 0" in message and "on rank 1 of its expert-parallel group" in message


@pytest.mark.multirank
def test_an_expert_that_fails_on_one_rank_ends_the_run() -> None:
    began = time.monotonic()
    with pytest.raises(RankError) as raised:
        run_ranks(broken_expert, 2, timeout=60)
    assert "the expert of rank 1 is broken" in str(raised.value)
    assert time.monotonic() - began < 60
