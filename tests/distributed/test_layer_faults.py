"""What goes wrong in the layer on one rank ends all of them, on their own, and each with the error that it saw."""

from __future__ import annotations

import datetime
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from smoe_ds.errors import NonFiniteError
from smoe_ds.moe import StratifiedMoE
from smoe_ds.moe.expert_parallel import ExpertParallelDispatcher
from smoe_ds.watch.failure import is_echo
from tests.helpers.own_ranks import OwnRanks

pytestmark = pytest.mark.multirank

LONG, SHORT = 600.0, 5.0  # time after which a collective gives up [s]; tests end long before the long one
OWN_ERROR, ECHO, NOT_FINITE, NO_ERROR = 31, 32, 33, 34  # exit codes of a rank


class Failing(nn.Module):
    """An expert that fails, on its way there or back."""

    way = "forward"

    def forward(self, x: Tensor) -> Tensor:
        return _Fails.apply(x, self.way)


class _Fails(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, way: str) -> Tensor:
        ctx.way = way
        _fail(way, "forward")
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        _fail(ctx.way, "backward")
        return grad, None


def _fail(way: str, where: str) -> None:
    if way == where:
        raise RuntimeError("the expert of rank 1 is broken")
    if way in ("SIGKILL", "SIGSTOP") and where == "backward":
        os.kill(os.getpid(), signal.Signals[way])


def one_pass(rank: int, world_size: int, way: str, chunks: int, timeout: float) -> int:
    """A pass through the layer; rank 1 fails; what came of it as the exit code."""
    dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=timeout))
    Failing.way = way
    expert = Failing if rank == 1 and way != "not a number" else None
    layer = StratifiedMoE(8, 16, [3, 3], ep_size=world_size, ep_rank=rank, name="block", expert=expert)
    layer.dispatcher = ExpertParallelDispatcher(dist.group.WORLD, chunks)
    torch.manual_seed(rank)
    x = torch.randn(40, 8)
    if rank == 1 and way == "not a number":
        x[0, 0] = torch.nan
    try:
        layer(x.requires_grad_())[0].sum().backward()
        dist.barrier()
    except NonFiniteError as error:
        print(error, flush=True)
        return NOT_FINITE
    except RuntimeError as error:
        print(error, flush=True)
        return ECHO if is_echo(error) else OWN_ERROR
    return NO_ERROR


def codes(folder: Path, way: str, *, chunks: int = 1, timeout: float = LONG) -> tuple[list[int | None], list[str]]:
    """Exit codes of three ranks that nobody ends, None for one that hangs; what they said."""
    endings = OwnRanks(one_pass, 3, folder, way, chunks, timeout).wait(60, without=1 if way == "SIGSTOP" else None)
    return [ending.code for ending in endings], [ending.output for ending in endings]


def test_not_a_number_on_one_rank_is_told_to_all(tmp_path: Path) -> None:
    found, said = codes(tmp_path, "not a number")
    assert found == [NOT_FINITE] * 3, said
    for message in said:
        assert "block: the input of stratum 0" in message and "on rank 1 of its expert-parallel group" in message


@pytest.mark.parametrize("chunks", [1, 2])
@pytest.mark.parametrize("way", ["forward", "backward", "SIGKILL"])
def test_the_others_see_a_rank_go_and_end(tmp_path: Path, way: str, chunks: int) -> None:
    found, said = codes(tmp_path, way, chunks=chunks)
    assert found == [ECHO, -signal.SIGKILL if way == "SIGKILL" else OWN_ERROR, ECHO], said
    assert way == "SIGKILL" or "the expert of rank 1 is broken" in said[1]


def test_the_others_do_not_wait_for_ever_for_a_rank_that_stands_still(tmp_path: Path) -> None:
    found, said = codes(tmp_path, "SIGSTOP", chunks=2, timeout=SHORT)
    assert found == [ECHO, None, ECHO], said


def test_without_a_fault_there_is_no_error(tmp_path: Path) -> None:
    found, said = codes(tmp_path, "none")
    assert found == [NO_ERROR] * 3, said
