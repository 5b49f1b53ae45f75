"""The helper itself: results in order, the failing rank named, nothing left behind."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from tests.helpers.ranks import RankError, run_ranks

pytestmark = pytest.mark.multirank


def _sum_of_ranks(rank: int, world_size: int, offset: int) -> tuple[int, torch.Tensor]:
    total = torch.tensor([float(rank + offset)])
    dist.all_reduce(total)
    return rank, total


def _fail_on_one(rank: int, world_size: int) -> None:
    if rank == 1:
        raise ValueError("rank one is ill")
    dist.barrier()


def _die_on_one(rank: int, world_size: int) -> None:
    if rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def _hang_on_one(rank: int, world_size: int) -> int:
    if rank == 0:
        time.sleep(60)
    return os.getpid()


def _missing_at_the_start(rank: int, world_size: int) -> tuple[set[str], int]:
    loaded, threads = set(sys.modules), len(list(Path("/proc/self/task").iterdir()))
    from tests.helpers.preloaded import MODULES

    return set(MODULES) - loaded, threads


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
def test_ranks_are_forked_from_a_server_without_threads_that_has_imported_what_they_need():
    ((missing, threads),) = run_ranks(_missing_at_the_start, 1, init=False)
    assert missing == set()
    assert threads <= 2  # its own, and that of the timeout


def test_results_come_in_rank_order():
    results = run_ranks(_sum_of_ranks, 2, 10)
    assert [rank for rank, _ in results] == [0, 1]
    assert all(total.item() == 21 for _, total in results)


def test_an_exception_is_shown_with_its_rank():
    with pytest.raises(RankError, match=r"(?s)rank 1: Traceback.*rank one is ill"):
        run_ranks(_fail_on_one, 2)


def test_a_killed_rank_ends_the_run():
    begin = time.monotonic()
    with pytest.raises(RankError, match="rank 1: died without an exception, killed by signal 9"):
        run_ranks(_die_on_one, 2)
    assert time.monotonic() - begin < 30


def test_a_hanging_rank_meets_the_deadline_and_its_stack_is_shown():
    with pytest.raises(RankError, match=r"(?s)1 of 2 ranks had not finished after 3 s.*rank 0 stood at.*_hang_on_one"):
        run_ranks(_hang_on_one, 2, timeout=3)
