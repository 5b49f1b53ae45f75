"""Collectives and messages are timed on what really travels between ranks; the slowest rank counts."""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from smoe_ds.errors import LaunchError
from smoe_ds.parallel import link_speed
from smoe_ds.parallel.link_speed import PairSpeed, rounds, time_all_reduce, time_all_to_all, time_pairs
from tests.helpers.hosts import Host, bytes_sent, two_hosts, why_not
from tests.helpers.ranks import run_ranks

CPU = torch.device("cpu")


def _measure(rank: int, world_size: int) -> list[Any]:
    pair = dist.new_group([0, 1])
    times = [time_all_to_all(1001, CPU), time_all_reduce(999, CPU), time_all_to_all(0, CPU, repeats=1)]
    if rank < 2:
        times += [time_all_to_all(64, CPU, pair), time_all_reduce(64, CPU, pair)]
    dist.barrier()
    return [*times, time_pairs(4096, CPU), time_pairs(4096, CPU, f"host{rank // 2}")]


@pytest.mark.multirank
def test_all_ranks_get_the_same_times() -> None:
    results = run_ranks(_measure, 3)
    assert [len(result) for result in results] == [7, 7, 5]
    assert results[0] == results[1]
    assert results[2] == results[0][:3] + results[0][5:]
    assert all(seconds > 0 for seconds in results[0][:5])
    *_, here, apart = results[0]
    assert here == []  # one host
    (pair,) = apart
    assert (pair.first, pair.second) == ("host0", "host1")
    assert min(pair.forth, pair.back, pair.both) > 0


def _alone(rank: int, world_size: int) -> tuple[float, float, list[PairSpeed]]:
    return time_all_to_all(100, CPU), time_all_reduce(100, CPU), time_pairs(100, CPU)


@pytest.mark.multirank
def test_one_rank_exchanges_with_itself() -> None:
    ((exchange, add_up, pairs),) = run_ranks(_alone, 1)
    assert exchange >= 0 and add_up >= 0 and pairs == []


def _one_is_slow(rank: int, world_size: int) -> float:
    # Only the last of the three takes long, and in four of five measurements.
    pauses = iter([0.0, 0.0, 0.2, 0.2, 0.2, 0.2])

    def call() -> None:
        if rank == 2:
            time.sleep(next(pauses))

    return link_speed._median_of_slowest(call, CPU, None, 5)


@pytest.mark.multirank
def test_the_slowest_rank_and_the_median_count() -> None:
    times = run_ranks(_one_is_slow, 3)
    assert len(set(times)) == 1
    assert times[0] >= 0.2


def _damaged(rank: int, world_size: int) -> list[str]:
    """One rank's bytes are another's on the way; what came is read, not only waited for."""
    exchange, add_up, receive = dist.all_to_all_single, dist.all_reduce, dist.batch_isend_irecv
    messages = []

    def wrong_exchange(received: torch.Tensor, sent: torch.Tensor, *args: Any, **options: Any) -> None:
        exchange(received, sent + (rank == 1), *args, **options)

    def wrong_sum(vector: torch.Tensor, *args: Any, **options: Any) -> None:
        if vector.dtype == torch.float32 and rank == 1:
            vector[3] += 1
        add_up(vector, *args, **options)

    def wrong_message(operations: list[dist.P2POp]) -> list[dist.Work]:
        if operations[0].tensor.dtype == torch.uint8 and rank == 1:
            operations[0].tensor[7] += 1
        return list(receive(operations))

    dist.all_to_all_single, dist.all_reduce, dist.batch_isend_irecv = wrong_exchange, wrong_sum, wrong_message
    for call in (
        lambda: time_all_to_all(100, CPU),
        lambda: time_all_reduce(100, CPU),
        lambda: time_pairs(100, CPU, f"host{rank}"),
    ):
        try:
            call()
        except LaunchError as error:
            messages.append(str(error))
    return messages


@pytest.mark.multirank
def test_what_arrives_wrong_is_an_error() -> None:
    first, second = run_ranks(_damaged, 2)
    assert [message.split(" is wrong in ")[0] for message in first] == [
        "all-to-all: what rank 0 received from rank 1 of the group",
        "all-reduce: the sum",
        "sending from host to host failed: rank 0: what came from rank 1",
    ]
    assert "in 100 of 100 elements, expected 1;" in first[0]
    assert "in 1 of 25 elements, expected 3;" in first[1]
    assert "in 1 of 100 elements, expected 1;" in first[2]
    assert second == first[1:]


@pytest.mark.parametrize("count", range(9))
def test_rounds_let_every_two_meet_once(count: int) -> None:
    played = list(rounds(count))
    for pairs in played:
        players = [player for pair in pairs for player in pair]
        assert len(players) == len(set(players))
    assert sorted(itertools.chain(*played)) == list(itertools.combinations(range(count), 2))
    assert len(played) == max(count - 1 + count % 2, 0)


@pytest.fixture
def hosts() -> Iterator[tuple[Host, Host]]:
    if reason := why_not():
        pytest.skip(reason)
    with two_hosts() as pair:
        yield pair


def _on_hosts(rank: int, world_size: int, hosts: tuple[Host, Host], store: str) -> list[tuple[int, int]]:
    """Bytes that left this rank's host during each measurement, and during one that sends next to nothing."""
    hosts[rank].enter()
    os.environ["MASTER_ADDR"] = hosts[0].address
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=world_size)
    assert socket.gethostname() == hosts[rank].namespace
    sent = []
    for call in (
        lambda size: time_all_to_all(size, CPU, repeats=4),
        lambda size: time_all_reduce(size, CPU, repeats=4),
        lambda size: time_pairs(size, CPU, repeats=4),
    ):
        for size in (1_000_000, 8):
            dist.barrier()
            before = bytes_sent(hosts[rank])
            found = call(size)
            dist.barrier()
            sent.append(bytes_sent(hosts[rank]) - before)
        if isinstance(found, list):
            assert [(pair.first, pair.second) for pair in found] == [(hosts[0].namespace, hosts[1].namespace)]
    dist.destroy_process_group()
    return list(zip(sent[::2], sent[1::2], strict=True))


@pytest.mark.netns
@pytest.mark.multirank
def test_as_many_bytes_travel_as_were_asked_for(hosts: tuple[Host, Host], tmp_path: Path) -> None:
    for sent in run_ranks(_on_hosts, 2, hosts, str(tmp_path / "store"), init=False):
        # Five calls of one megabyte each; two messages of one size a call between two hosts, one each way and one both.
        expected = (5_000_000, 5_000_000, 10_000_000)
        for (large, small), size in zip(sent, expected, strict=True):
            assert size <= large - small < 1.1 * size
