"""Seconds of a collective over ranks on several hosts, from the lines of the links within and between hosts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from smoe_ds.scaling.constants import Constants
from smoe_ds.scaling.line import Line

NOTHING = Line(0.0, 1.0)


@dataclass(frozen=True)
class Topology:
    """Hosts with as many devices each; ranks are numbered host by host.

    Attributes:
        nodes: hosts.
        per_node: ranks of a host.
    """

    nodes: int
    per_node: int

    @property
    def ranks(self) -> int:
        return self.nodes * self.per_node

    def host(self, rank: int) -> int:
        """The host of a rank."""
        return rank // self.per_node


@dataclass(frozen=True)
class Group:
    """Where the ranks of a group lie.

    Attributes:
        size: ranks.
        hosts: hosts they lie on.
        per_host: ranks on the host that has most of them.
        sharing: groups of the kind that use a host's link at the same time.
    """

    size: int
    hosts: int
    per_host: int
    sharing: int = 1


def whole_group(topology: Topology) -> Group:
    """All ranks, which hold the same dense parameters."""
    return Group(topology.ranks, topology.nodes, topology.per_node)


def expert_data_group(topology: Topology, ep_size: int) -> Group:
    """The ranks that hold the same experts: every ``ep_size``-th one."""
    hosts = Counter(topology.host(rank) for rank in range(0, topology.ranks, ep_size))
    return Group(sum(hosts.values()), len(hosts), max(hosts.values()), min(ep_size, topology.per_node))


def all_reduce_seconds(constants: Constants, group: Group, size: float, calls: float = 1.0) -> float:
    """Seconds of a sum over a group: a ring within each host and one between hosts, at the same time.

    Every byte passes each link about twice; steps of the ring follow each other within a host, and between hosts as in
    a tree, ``2 log2(hosts)``.

    Args:
        constants: has ``all_reduce_within`` and, over several hosts, ``all_reduce_between``.
        group: where its ranks lie.
        size: bytes of the vector, all calls together.
        calls: in how many pieces.
    """
    return _ring_seconds(constants, group, 2.0, size, calls)


def all_gather_seconds(constants: Constants, group: Group, size: float, calls: float = 1.0) -> float:
    """Seconds until all ranks have a vector of which each held its share: half of a sum."""
    return _ring_seconds(constants, group, 1.0, size, calls)


def _ring_seconds(constants: Constants, group: Group, passes: float, size: float, calls: float) -> float:
    within = constants.line("all_reduce_within") if group.per_host > 1 else NOTHING
    between = constants.line("all_reduce_between") if group.hosts > 1 else NOTHING
    steps = calls * passes
    fixed = steps * ((group.per_host - 1) * within.fixed + math.ceil(math.log2(group.hosts)) * between.fixed)
    inside = passes * size * (group.size - 1) / group.size / within.per_second if group.per_host > 1 else 0.0
    outside = passes * size * (group.hosts - 1) / group.hosts * group.sharing / between.per_second
    return fixed + max(inside, outside if group.hosts > 1 else 0.0)


@dataclass(frozen=True)
class Exchange:
    """The expert-parallel exchange between the ranks of a topology.

    Attributes:
        peers_within: other ranks of its group that a rank finds on its host, at most.
        peers_between: those on other hosts, at most.
        share_within: part of what a rank sends that stays on its host, at most.
        share_between: what a host sends to others, over what one rank sends, at most.
    """

    peers_within: int
    peers_between: int
    share_within: float
    share_between: float


def exchange_of(topology: Topology, ep_size: int) -> Exchange:
    """Where the messages of an all-to-all within consecutive ``ep_size`` ranks go; all groups exchange at once."""
    if ep_size == 1:
        return Exchange(0, 0, 0.0, 0.0)
    within = [_peers_on_host(topology, rank, ep_size) for rank in range(topology.ranks)]
    leaving: Sequence[float] = [
        sum(ep_size - 1 - within[rank] for rank in range(host * topology.per_node, (host + 1) * topology.per_node))
        for host in range(topology.nodes)
    ]
    others = ep_size - 1
    return Exchange(max(within), others - min(within), max(within) / others, max(leaving) / others)


def _peers_on_host(topology: Topology, rank: int, ep_size: int) -> int:
    first, host = rank // ep_size * ep_size, topology.host(rank)
    return sum(1 for other in range(first, first + ep_size) if other != rank and topology.host(other) == host)


def all_to_all_seconds(constants: Constants, exchange: Exchange, size: float, calls: float = 1.0) -> float:
    """Seconds of an exchange.

    Args:
        constants: has ``all_to_all_within`` and ``all_to_all_between``, as far as there are such messages.
        exchange: where the messages go.
        size: bytes that the busiest rank sends to all others, all calls together.
        calls: in how many pieces.
    """
    within = constants.line("all_to_all_within") if exchange.peers_within else NOTHING
    between = constants.line("all_to_all_between") if exchange.peers_between else NOTHING
    fixed = calls * (exchange.peers_within * within.fixed + exchange.peers_between * between.fixed)
    inside = size * exchange.share_within / within.per_second
    outside = size * exchange.share_between / between.per_second
    return fixed + max(inside, outside)
