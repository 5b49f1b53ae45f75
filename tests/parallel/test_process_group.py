"""The process group starts in one way for one process and for many."""

from __future__ import annotations

import dataclasses
import os
import re
import socket
from typing import Any

import pytest
import torch
import torch.distributed as dist

from smoe_ds.errors import LaunchError
from smoe_ds.parallel import process_group
from smoe_ds.parallel.agreement import gather_json
from smoe_ds.parallel.launchers import discover
from smoe_ds.parallel.process_group import init_distributed, shutdown
from tests.helpers.ranks import run_ranks

pytestmark = pytest.mark.multirank


def _start_and_end(rank: int, world_size: int) -> tuple[Any, ...]:
    env = discover()
    found = init_distributed(env, torch.device("cpu"), timeout=30)
    values = gather_json({"rank": rank, "text": "é" * rank, "list": list(range(rank * 100))})
    total = torch.tensor([rank + 1])
    dist.all_reduce(total)
    shutdown()
    return found, values, int(total), dist.is_initialized(), dist.is_available()


@pytest.mark.parametrize("world_size", [1, 3])
def test_start_agree_end(world_size: int) -> None:
    for rank, result in enumerate(run_ranks(_start_and_end, world_size, init=False)):
        found, values, total, initialised, _ = result
        assert (found.rank, found.world_size, found.master_addr) == (rank, world_size, "127.0.0.1")
        assert values == [{"rank": r, "text": "é" * r, "list": list(range(r * 100))} for r in range(world_size)]
        assert total == sum(range(1, world_size + 1))
        assert not initialised


def _alone(rank: int, world_size: int) -> tuple[int, int | None]:
    env = init_distributed(discover({}), torch.device("cpu"))
    size = dist.get_world_size()
    shutdown()
    shutdown()  # nothing left to end
    return size, env.master_port


def test_a_single_process_chooses_its_own_port() -> None:
    results = run_ranks(_alone, 2, init=False)  # two runs on one host at the same time
    assert [size for size, _ in results] == [1, 1]
    assert results[0][1] != results[1][1]


def _alone_beside_another(rank: int, world_size: int) -> int:
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        process_group.free_port = lambda: other.getsockname()[1]  # taken since it was looked for
        init_distributed(discover({}), torch.device("cpu"))
        size = dist.get_world_size()
        shutdown()
    return size


def test_a_single_process_needs_no_port() -> None:
    assert run_ranks(_alone_beside_another, 1, init=False) == [1]


def _promise_more(rank: int, world_size: int) -> str:
    promised = dataclasses.replace(discover(), world_size=5)
    with pytest.raises(LaunchError) as error:
        init_distributed(promised, torch.device("cpu"))
    return str(error.value)


def test_a_group_of_another_size_than_promised_is_refused() -> None:
    for rank, message in enumerate(run_ranks(_promise_more, 2)):
        assert f"promised rank {rank} of 5, the process group has rank {rank} of 2" in message


def _nobody_comes(rank: int, world_size: int) -> str:
    lonely = dataclasses.replace(discover(), rank=1, world_size=2, local_world_size=2)
    with pytest.raises(LaunchError) as error:
        init_distributed(lonely, torch.device("cpu"), timeout=2)
    return str(error.value)


def test_a_meeting_that_does_not_take_place_is_told() -> None:
    (message,) = run_ranks(_nobody_comes, 1, init=False)
    assert message.startswith("rank 1 of 2 could not meet the others at 127.0.0.1:")


def _with_port_taken(rank: int, world_size: int) -> str:
    with socket.socket() as other:
        other.bind(("127.0.0.1", int(os.environ["MASTER_PORT"])))
        other.listen()
        with pytest.raises(LaunchError) as error:
            init_distributed(discover(), torch.device("cpu"), timeout=30, who_came=lambda: "all were started")
    return str(error.value)


def test_a_port_that_is_taken_is_told_at_once() -> None:
    (message,) = run_ranks(_with_port_taken, 1, init=False)
    assert re.fullmatch(
        r"rank 0 of 1 \(started by environment\): port \d+ of \S+ is in use by another program; set MASTER_PORT to a "
        "free port, the same for all ranks",
        message,
    )
