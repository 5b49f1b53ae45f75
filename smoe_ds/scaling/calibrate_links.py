"""Measures the links that a run's collectives use: within a host and between hosts, as fixed cost and bandwidth."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.distributed as dist

from smoe_ds.parallel.agreement import gather_json
from smoe_ds.parallel.link_speed import time_all_reduce, time_all_to_all
from smoe_ds.scaling.collectives import Topology
from smoe_ds.scaling.constants import Constant, measured

SIZES = (2**12, 2**16, 2**20, 2**23)
"""Bytes that a rank has to send or to sum up."""


def measure_links(topology: Topology, device: torch.device, repeats: int) -> dict[str, Constant]:
    """Constants of the links in use; a collective over all ranks.

    All hosts, and within them all devices, are busy at the same time, as in training: what is found is a rank's share
    within a host, and a whole host's between hosts.

    Args:
        topology: hosts and ranks of the process group, host by host.
        device: what this rank computes on.
        repeats: readings of which the shortest counts.
    """
    hosts = [range(host * topology.per_node, (host + 1) * topology.per_node) for host in range(topology.nodes)]
    places = [range(place, topology.ranks, topology.per_node) for place in range(topology.per_node)]
    found: dict[str, Constant] = {}
    if topology.per_node > 1:
        found |= _within(_own_group(hosts), topology.per_node, device, repeats)
    if topology.nodes > 1:
        found |= _between(_own_group(places), topology, device, repeats)
    return found


def _own_group(groups: list[range]) -> dist.ProcessGroup:
    """The group among these that this rank belongs to; every rank makes all of them."""
    made = [(ranks, dist.new_group(list(ranks))) for ranks in groups]
    return next(group for ranks, group in made if dist.get_rank() in ranks)


def _within(group: dist.ProcessGroup, ranks: int, device: torch.device, repeats: int) -> dict[str, Constant]:
    sends = [(float(size), _seconds(time_all_to_all, size, device, group, repeats)) for size in SIZES]
    sums = [(2 * size * (ranks - 1) / ranks, _seconds(time_all_reduce, size, device, group, repeats)) for size in SIZES]
    return {
        "all_to_all_within": measured(sends, ranks - 1),
        "all_reduce_within": measured(sums, 2 * (ranks - 1)),
    }


def _between(group: dist.ProcessGroup, topology: Topology, device: torch.device, repeats: int) -> dict[str, Constant]:
    hosts, busy = topology.nodes, topology.per_node
    sends = [(float(busy * size), _seconds(time_all_to_all, size, device, group, repeats)) for size in SIZES]
    sums = [
        (2 * busy * size * (hosts - 1) / hosts, _seconds(time_all_reduce, size, device, group, repeats))
        for size in SIZES
    ]
    return {
        "all_to_all_between": measured(sends, hosts - 1),
        "all_reduce_between": measured(sums, 2 * math.ceil(math.log2(hosts))),
    }


def _seconds(
    time: Callable[[int, torch.device, dist.ProcessGroup, int], float],
    size: int,
    device: torch.device,
    group: dist.ProcessGroup,
    repeats: int,
) -> float:
    """The shortest of several readings, each that of the slowest rank in the slowest group."""
    return float(min(max(gather_json(time(size, device, group, 1))) for _ in range(repeats)))
