"""Where the messages of collectives go, counted rank by rank, and what they cost."""

from __future__ import annotations

import pytest

from smoe_ds.scaling.collectives import (
    Topology,
    all_gather_seconds,
    all_reduce_seconds,
    all_to_all_seconds,
    exchange_of,
    expert_data_group,
    whole_group,
)
from smoe_ds.scaling.constants import Constant, Constants
from smoe_ds.scaling.line import Line

CONSTANTS = Constants(
    "made up",
    "cpu",
    "fp32",
    {
        "all_to_all_within": Constant(Line(1e-5, 1e9), True),
        "all_to_all_between": Constant(Line(1e-4, 1e8), True),
        "all_reduce_within": Constant(Line(2e-5, 2e9), True),
        "all_reduce_between": Constant(Line(2e-4, 2e8), True),
    },
)
PLACES = [(1, 1, 1), (1, 8, 4), (2, 8, 8), (2, 8, 16), (4, 2, 4), (16, 8, 32), (8, 6, 4), (3, 4, 6)]


@pytest.mark.parametrize(("nodes", "per_node", "ep_size"), PLACES)
def test_messages_counted_one_by_one(nodes: int, per_node: int, ep_size: int) -> None:
    ranks = nodes * per_node
    groups = [range(first, first + ep_size) for first in range(0, ranks, ep_size)]
    found = exchange_of(Topology(nodes, per_node), ep_size)
    near, far, leaving = [], [], [0] * nodes
    for group in groups:
        for rank in group:
            hosts = [other // per_node for other in group if other != rank]
            near.append(hosts.count(rank // per_node))
            far.append(len(hosts) - near[-1])
            leaving[rank // per_node] += far[-1]
    assert (found.peers_within, found.peers_between) == (max(near), max(far))
    if ep_size > 1:
        assert found.share_within == max(near) / (ep_size - 1)
        assert found.share_between == max(leaving) / (ep_size - 1)


@pytest.mark.parametrize(("nodes", "per_node", "ep_size"), PLACES)
def test_holders_of_the_same_experts(nodes: int, per_node: int, ep_size: int) -> None:
    found = expert_data_group(Topology(nodes, per_node), ep_size)
    holders = list(range(0, nodes * per_node, ep_size))
    hosts = [rank // per_node for rank in holders]
    assert (found.size, found.hosts) == (len(holders), len(set(hosts)))
    assert found.per_host == max(hosts.count(host) for host in hosts)


def test_seconds() -> None:
    alone, host, two = (Topology(1, 1), Topology(1, 4), Topology(2, 4))
    assert all_reduce_seconds(CONSTANTS, whole_group(alone), 1e6) == 0
    # A ring of four: six steps; three quarters of the vector pass twice.
    assert all_reduce_seconds(CONSTANTS, whole_group(host), 1e6) == pytest.approx(6 * 2e-5 + 2 * 0.75e6 / 2e9)
    assert all_gather_seconds(CONSTANTS, whole_group(host), 1e6) == pytest.approx(3 * 2e-5 + 0.75e6 / 2e9)
    # Between two hosts half passes twice; the slower link decides.
    both = 6 * 2e-5 + 2 * 2e-4
    assert all_reduce_seconds(CONSTANTS, whole_group(two), 1e6) == pytest.approx(both + 2 * 0.5e6 / 2e8)
    assert all_reduce_seconds(CONSTANTS, whole_group(two), 1e6, calls=3) == pytest.approx(3 * both + 1e6 / 2e8)
    # Four groups of two holders each, one a host, share its link.
    experts = expert_data_group(two, 4)
    assert all_reduce_seconds(CONSTANTS, experts, 1e6) == pytest.approx(2 * 2e-4 + 4 * 2 * 0.5e6 / 2e8)
    # Eight ranks exchange: three peers here, four there; each host sends the other four sevenths of what its four have.
    exchange = exchange_of(two, 8)
    fixed = 3 * 1e-5 + 4 * 1e-4
    assert all_to_all_seconds(CONSTANTS, exchange, 7e6) == pytest.approx(fixed + 4 * 4e6 / 1e8)
    assert all_to_all_seconds(CONSTANTS, exchange_of(two, 4), 3e6) == pytest.approx(3 * 1e-5 + 3e6 / 1e9)
    assert all_to_all_seconds(CONSTANTS, exchange_of(two, 1), 3e6) == 0
