"""How long collectives and messages take: measured between the ranks of a process group, contents checked."""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from smoe_ds.errors import LaunchError
from smoe_ds.parallel.agreement import agree, gather_json

if TYPE_CHECKING:
    import torch
    from torch.distributed import ProcessGroup

_MARKS = 251  # ranks are told apart by a byte of content


def time_all_to_all(
    nbytes_per_rank: int, device: torch.device, group: ProcessGroup | None = None, repeats: int = 5
) -> float:
    """Seconds of an exchange in which every rank sends the same to each of the others. A collective.

    Args:
        nbytes_per_rank: what each rank sends to all others together; rounded up to equal bytes for each.
        device: holds the buffers; one that the group's backend takes.
        group: the ranks; None: all.
        repeats: measurements, after one that is thrown away.

    Returns:
        The median over repeats of what the slowest rank took, the same on all ranks.

    Raises:
        LaunchError: something else arrived than was sent.
    """
    import torch
    import torch.distributed as dist

    rank, size = dist.get_rank(group), dist.get_world_size(group)
    each = -(-nbytes_per_rank // max(size - 1, 1))
    splits = [0 if other == rank else each for other in range(size)]
    sent = torch.full((sum(splits),), rank % _MARKS, dtype=torch.uint8, device=device)
    received = torch.full_like(sent, _MARKS)

    def exchange() -> None:
        dist.all_to_all_single(received, sent, splits, splits, group=group)

    seconds = _median_of_slowest(exchange, device, group, repeats)
    for other, part in enumerate(received.split(splits)):
        _expect(part, other % _MARKS, f"all-to-all: what rank {rank} received from rank {other} of the group")
    return seconds


def time_all_reduce(nbytes: int, device: torch.device, group: ProcessGroup | None = None, repeats: int = 5) -> float:
    """Seconds of a sum of fp32 vectors over all ranks. A collective.

    Args:
        nbytes: size of the vector; rounded up to whole elements.
        device: holds it; one that the group's backend takes.
        group: the ranks; None: all.
        repeats: measurements, after one that is thrown away.

    Returns:
        The median over repeats of what the slowest rank took, the same on all ranks.

    Raises:
        LaunchError: the sum is wrong.
    """
    import torch
    import torch.distributed as dist

    size = dist.get_world_size(group)
    vector = torch.full((-(-nbytes // 4),), dist.get_rank(group) + 1.0, device=device)
    total = torch.empty_like(vector)

    def add_up() -> None:
        total.copy_(vector)  # the same numbers every time: sums of sums would overflow
        dist.all_reduce(total, group=group)

    seconds = _median_of_slowest(add_up, device, group, repeats)
    _expect(total, size * (size + 1) / 2, "all-reduce: the sum")
    return seconds


@dataclass(frozen=True)
class PairSpeed:
    """What one pair of hosts reaches.

    Attributes:
        first: name of a host.
        second: name of another one.
        forth: from the first to the second [bytes/s].
        back: from the second to the first [bytes/s].
        both: in each direction while both send [bytes/s].
    """

    first: str
    second: str
    forth: float
    back: float
    both: float


def time_pairs(
    nbytes: int, device: torch.device, host: str | None = None, group: ProcessGroup | None = None, repeats: int = 3
) -> list[PairSpeed]:
    """The speed between every two hosts, one rank on each; pairs that share no host are measured at the same time.

    A collective over all ranks.

    Args:
        nbytes: size of a message.
        device: holds it; one that the backend takes.
        host: name of this rank's host; None asks the system.
        group: carries the messages, has all ranks; None: the default one, which carries the results in any case.
        repeats: messages in each direction, after one that is thrown away; the median counts.

    Returns:
        Every pair once, on every rank; nothing on one host.

    Raises:
        LaunchError: something else arrived than was sent, to any rank.
    """
    import torch
    import torch.distributed as dist

    first_ranks: dict[str, int] = {}
    for rank, name in enumerate(gather_json(host or socket.gethostname())):
        first_ranks.setdefault(name, rank)
    hosts, mine = list(first_ranks), dist.get_rank()
    own = torch.full((nbytes,), mine % _MARKS, dtype=torch.uint8, device=device)
    other = torch.full_like(own, _MARKS)
    measured: list[tuple[str, str, float, float, float]] = []
    problem: str | None = None
    for pairs in rounds(len(hosts)):
        for first, second in pairs:
            a, b = first_ranks[hosts[first]], first_ranks[hosts[second]]
            if mine in (a, b):
                peer = b if mine == a else a
                times = _time_pair(own, other, mine == a, peer, group, repeats)
                if mine == a:
                    measured.append((hosts[first], hosts[second], *times))
                problem = problem or _problem(other, peer % _MARKS, f"what came from rank {peer}")
        dist.barrier(group)
    agree(problem, LaunchError, "sending from host to host")
    found = [PairSpeed(a, b, *(nbytes / s for s in times)) for part in gather_json(measured) for a, b, *times in part]
    return sorted(found, key=lambda pair: (hosts.index(pair.first), hosts.index(pair.second)))


def rounds(count: int) -> Iterator[list[tuple[int, int]]]:
    """Every two of `count` meet once, each at most once a round (the circle method of tournaments)."""
    seats: list[int | None] = [*range(count)] + ([None] if count % 2 else [])  # facing None: a round without a match
    for _ in range(len(seats) - 1):
        half = len(seats) // 2
        facing = zip(seats[:half], reversed(seats[half:]), strict=True)
        yield sorted((min(a, b), max(a, b)) for a, b in facing if a is not None and b is not None)
        seats = [seats[0], seats[-1], *seats[1:-1]]


def _time_pair(
    own: torch.Tensor, other: torch.Tensor, first: bool, peer: int, group: ProcessGroup | None, repeats: int
) -> tuple[float, float, float]:
    """Median seconds of a message forth, back, and of one each way at once, as this rank's clock has them.

    A message counts from its start until the receiver's one-byte answer is there, on the clock of its sender, so the
    receiver's share of the work is in it; the direction back is timed by the second rank and told to the first.
    """
    import torch

    answer = torch.zeros(1, dtype=torch.uint8, device=own.device)
    forth, back, both = [], [], []
    for _ in range(repeats + 1):
        forth.append(_timed(lambda: _one_way(own, other, answer, peer, group, sending=first), own.device))
        back.append(_timed(lambda: _one_way(own, other, answer, peer, group, sending=not first), own.device))
        _one_way(answer, answer.clone(), answer, peer, group, sending=first)  # both are here now
        both.append(_timed(lambda: _swap(own, other, peer, group), own.device))
    medians = [statistics.median(times[1:]) for times in (forth, back, both)]
    return _as_senders_saw(medians, own.device, first, peer, group)


def _one_way(
    own: torch.Tensor,
    other: torch.Tensor,
    answer: torch.Tensor,
    peer: int,
    group: ProcessGroup | None,
    *,
    sending: bool,
) -> None:
    import torch.distributed as dist

    if sending:
        dist.send(own, peer, group)
        dist.recv(answer, peer, group)
    else:
        dist.recv(other, peer, group)
        dist.send(answer, peer, group)


def _swap(own: torch.Tensor, other: torch.Tensor, peer: int, group: ProcessGroup | None) -> None:
    import torch.distributed as dist

    both = [dist.P2POp(dist.isend, own, peer, group), dist.P2POp(dist.irecv, other, peer, group)]
    for work in dist.batch_isend_irecv(both):
        work.wait()


def _as_senders_saw(
    medians: Sequence[float], device: torch.device, first: bool, peer: int, group: ProcessGroup | None
) -> tuple[float, float, float]:
    """Times of the pair: forth from the first's clock, back from the second's, both the longer one."""
    import torch

    mine = torch.tensor(medians, dtype=torch.float64, device=device)
    theirs = torch.zeros_like(mine)
    _swap(mine, theirs, peer, group)
    one, two = (mine.tolist(), theirs.tolist()) if first else (theirs.tolist(), mine.tolist())
    return one[0], two[1], max(one[2], two[2])


def _median_of_slowest(
    call: Callable[[], None], device: torch.device, group: ProcessGroup | None, repeats: int
) -> float:
    """Median over repeats of the time of the slowest rank; all begin together; a first call is not counted."""
    import torch
    import torch.distributed as dist

    durations = []
    for _ in range(repeats + 1):
        dist.barrier(group)
        durations.append(_timed(call, device))
    slowest = torch.tensor(durations[1:], dtype=torch.float64, device=device)
    dist.all_reduce(slowest, dist.ReduceOp.MAX, group=group)
    return statistics.median(slowest.tolist())


def _timed(call: Callable[[], None], device: torch.device) -> float:
    """Seconds until a call's work is done, on the device too."""
    _wait_for(device)
    start = time.perf_counter()
    call()
    _wait_for(device)
    return time.perf_counter() - start


def _wait_for(device: torch.device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _expect(found: torch.Tensor, value: float, what: str) -> None:
    if problem := _problem(found, value, what):
        raise LaunchError(problem)


def _problem(found: torch.Tensor, value: float, what: str) -> str | None:
    wrong = int((found != value).sum())
    if not wrong:
        return None
    return (
        f"{what} is wrong in {wrong} of {found.numel()} elements, expected {value:g}; check network, driver and NCCL "
        "or gloo"
    )
