"""Whether collectives between the ranks give right results, and how fast hosts reach each other."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from smoe_ds.doctor.context import Context
from smoe_ds.doctor.finding import FAILED, NOTE, OK, SKIPPED, Finding
from smoe_ds.text_line import first_line

if TYPE_CHECKING:
    import torch
    from torch.distributed import ProcessGroup

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_MESSAGE = {"cpu": 4 << 20, "cuda": 64 << 20}
"""Bytes of a message that is timed, by device."""
_MANY = 257  # rows of the largest part of the uneven exchange
_UNEVEN = 0.5  # a pair of hosts below this share of the median is named
_SHOWN = 3


def check_network(context: Context) -> Iterator[Finding]:
    """Known content through an uneven all-to-all and an all-reduce, then times; over all ranks."""
    if context.env.world_size == 1:
        yield Finding(SKIPPED, "skipped because one process trains", scope="run")
        return
    import torch.distributed as dist

    if not context.meeting.all_agree("network/start", True, context.seconds / 2):
        yield Finding(SKIPPED, "skipped because ranks are missing")
        return
    problem = group = None
    try:
        group = open_group(context)
        problems = (exchange_problem(context.device, group), sum_problem(context.device, group))  # both on every rank
        problem = next(filter(None, problems), None)
    except Exception as error:
        problem = f"{type(error).__name__}: {first_line(str(error))}"
    if problem is not None:
        yield Finding(
            FAILED,
            problem,
            "check that hosts reach each other on all ports, and over which interface (GLOO_SOCKET_IFNAME, "
            "NCCL_SOCKET_IFNAME); NCCL_DEBUG=INFO tells more",
        )
    if not context.meeting.all_agree("network", problem is None, context.seconds):
        if problem is None:
            yield Finding(SKIPPED, "times: skipped because another rank's collectives failed")
        return
    if context.env.rank == 0:
        backend = dist.get_backend(group)
        yield Finding(OK, f"all-to-all (uneven) and all-reduce give the right results over {backend}", scope="run")
    yield from _times(context, group)
    dist.destroy_process_group()


def open_group(context: Context) -> ProcessGroup | None:
    """All ranks in a group of the backend that training would use; None stands for the default one, which is gloo."""
    import torch
    import torch.distributed as dist

    if context.device.type == "cuda":
        torch.cuda.set_device(context.device)
    if context.env.master_addr in _LOOPBACK and Path("/sys/class/net/lo").exists():
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # else gloo asks for the address of this host's name
    dist.init_process_group(
        "gloo",
        store=dist.PrefixStore("gloo", context.meeting.store),
        rank=context.env.rank,
        world_size=context.env.world_size,
        timeout=datetime.timedelta(seconds=context.seconds / 2),
    )
    return dist.new_group(backend="nccl") if context.device.type == "cuda" else None


def exchange_problem(device: torch.device, group: ProcessGroup | None = None) -> str | None:
    """Sends parts of different sizes, none among them, whose every number tells sender, receiver and place."""
    import torch
    import torch.distributed as dist

    rank, size = dist.get_rank(group), dist.get_world_size(group)
    outgoing = [torch.arange(_rows(rank, to)) * size * size + rank * size + to for to in range(size)]
    expected = [torch.arange(_rows(source, rank)) * size * size + source * size + rank for source in range(size)]
    received = torch.full((sum(map(len, expected)),), -1, dtype=torch.int64, device=device)
    dist.all_to_all_single(
        received, torch.cat(outgoing).to(device), list(map(len, expected)), list(map(len, outgoing)), group=group
    )
    parts = received.cpu().split(list(map(len, expected)))
    wrong = [source for source, part in enumerate(parts) if not torch.equal(part, expected[source])]
    return f"all-to-all: what arrived from ranks {wrong} is not what they sent" if wrong else None


def _rows(source: int, to: int) -> int:
    """Rows that one rank sends to another; nothing now and then."""
    return (source * 97 + to * 31) % _MANY * ((source + to) % 3 != 2)


def sum_problem(device: torch.device, group: ProcessGroup | None = None) -> str | None:
    """Adds up whole numbers, which fp32 holds exactly."""
    import torch
    import torch.distributed as dist

    rank, size = dist.get_rank(group), dist.get_world_size(group)
    numbers = torch.arange(1000.0)
    total = (numbers + rank).to(device)
    dist.all_reduce(total, group=group)
    expected = size * numbers + size * (size - 1) / 2
    wrong = int((total.cpu() != expected).sum())
    return f"all-reduce: {wrong} of {len(expected)} sums are wrong" if wrong else None


def _times(context: Context, group: ProcessGroup | None) -> Iterator[Finding]:
    """Every measurement on every rank, told by rank 0."""
    from smoe_ds.parallel.link_speed import time_all_reduce, time_all_to_all, time_pairs

    device, nbytes, first = context.device, _MESSAGE[context.device.type], context.env.rank == 0
    seconds = time_all_reduce(nbytes, device, group)
    if first:
        yield Finding(
            OK,
            "all-reduce of {size:bytes} over all ranks: {took:seconds} ({speed:rate})",
            figures={"size": nbytes, "took": seconds, "speed": nbytes / seconds},
            scope="run",
        )
    own = _expert_group(context, group)
    seconds = time_all_to_all(nbytes, device, own)
    if first:
        yield exchange_finding(context.plan.exchange_bytes_per_step, nbytes, seconds, context.run.smoe.moe.ep_size)
    pairs = time_pairs(nbytes, device, context.meeting.hosts[context.env.rank], group)
    if first and pairs:
        speeds = {(pair.first, pair.second): min(pair.forth, pair.back) for pair in pairs}
        both = [pair.both for pair in pairs]
        yield from pairs_findings(speeds, min(both), max(both))


def _expert_group(context: Context, group: ProcessGroup | None) -> ProcessGroup | None:
    """The ranks this one would exchange with: `ep_size` consecutive ones; all where nothing is exchanged."""
    import torch.distributed as dist

    size, world = context.run.smoe.moe.ep_size, context.env.world_size
    if size in (1, world) or world % size:
        return group
    groups = [
        dist.new_group(list(range(start, start + size)), backend=dist.get_backend(group))
        for start in range(0, world, size)
    ]
    return groups[context.env.rank // size]


def exchange_finding(per_step: float, nbytes: float, seconds: float, ep_size: int) -> Finding:
    """What was measured, and what it means for the exchange of experts' rows.

    Args:
        per_step: bytes a rank sends in one optimizer step by the plan.
        nbytes: bytes a rank sent in the measurement.
        seconds: that took.
        ep_size: the run's.
    """
    figures = {"size": nbytes, "took": seconds, "speed": nbytes / seconds}
    text = "all-to-all of {size:bytes} a rank: {took:seconds} ({speed:rate})"
    if not per_step:
        return Finding(OK, f"{text}; the run exchanges nothing (ep_size {ep_size})", figures=figures, scope="run")
    return Finding(
        OK,
        f"{text}; a step exchanges {{step:bytes}}: {{wait:seconds}} at least (ep_size {ep_size})",
        figures=figures | {"step": per_step, "wait": per_step * seconds / nbytes},
        scope="run",
    )


def pairs_findings(speeds: dict[tuple[str, str], float], slowest: float, fastest: float) -> Iterator[Finding]:
    """How fast pairs of hosts are, and which are much slower than the others.

    Args:
        speeds: of the slower direction, by pair [bytes/s].
        slowest: of any pair while both send, each direction [bytes/s].
        fastest: the same of the fastest pair.
    """
    ranked = sorted(speeds.values())
    figures = {"low": ranked[0], "median": ranked[len(ranked) // 2], "slowest": slowest, "fastest": fastest}
    if len(speeds) == 1:
        ((a, b),) = speeds
        text = f"{a} and {b}: {{low:rate}} one way, {{slowest:rate}} each way when both send"
    else:
        text = (
            f"{len(speeds)} pairs of hosts: {{low:rate}} at least and {{median:rate}} in the median one way, "
            "{slowest:rate} to {fastest:rate} each way when both send"
        )
    yield Finding(OK, text, figures=figures, scope="run")
    slow = {pair: speed for pair, speed in speeds.items() if speed < _UNEVEN * figures["median"]}
    for (a, b), speed in sorted(slow.items(), key=lambda item: item[1])[:_SHOWN]:
        yield Finding(
            NOTE,
            f"{a} and {b}: {{speed:rate}}, the median pair has {{median:rate}}",
            "look at cable, switch port and interface of the host that is in several such pairs, or leave it out "
            "(--exclude)",
            {"speed": speed, "median": figures["median"]},
            scope="run",
        )
