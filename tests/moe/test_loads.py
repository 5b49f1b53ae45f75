"""Tokens and rows of the strata, against simulation and the layer; and how evenly experts lie on ranks."""

from __future__ import annotations

import random

import pytest
import torch

from smoe_ds.moe import StratifiedMoE, loads
from smoe_ds.moe.placement import Placement
from tests.helpers.counted import counted_loads


def simulated_strata(strata: list[int], walks: int) -> float:
    """Mean strata passed when every visible expert is equally likely."""
    draw, passed = random.Random(0), 0
    for _ in range(walks):
        stratum = 0
        while stratum < len(strata):
            passed += 1
            expert = draw.randrange(sum(strata[:stratum]), sum(strata))
            stratum = next(i for i in range(len(strata)) if expert < sum(strata[: i + 1])) + 1
    return passed / walks


@pytest.mark.parametrize("strata", [[8], [4, 4], [4, 12], [12, 4], [2, 2, 2, 2], [8, 4, 4]], ids=str)
def test_expected_strata_equal_a_simulation(strata: list[int]) -> None:
    assert loads.expected_strata(strata) == pytest.approx(simulated_strata(strata, 40_000), rel=0.02)


def test_known_values() -> None:
    assert loads.expected_strata([4, 12]) == 1.25
    assert loads.expected_strata([2, 2, 2, 2]) == pytest.approx(25 / 12)  # harmonic number H_4
    assert loads.expected_strata([4, 4], stacked=True) == 2
    assert loads.expected_strata([]) == 0
    assert loads.stratum_shares([4, 12]) == [1, 0.25]


def test_a_layer_with_orthogonal_gates_has_these_loads() -> None:
    """On random tokens such gates choose every expert as often."""
    torch.manual_seed(0)
    strata = (4, 4, 8)
    layer = StratifiedMoE(32, 4, strata, top_k=1, capacity_factor=None)
    for gate in layer.gates:
        torch.nn.init.orthogonal_(gate)
    with torch.no_grad():
        stats = layer(torch.randn(40_000, 32))[1]
    rc = stats.requested_capacity.float().mean().item()
    assert rc == pytest.approx(loads.expected_strata(strata), rel=0.02)
    expected = loads.stratum_loads(Placement(strata), 40_000, 1)
    for counted, one in zip(counted_loads(stats, 1), expected, strict=True):
        assert (counted.tokens, counted.rows) == pytest.approx((one.tokens, one.rows), rel=0.05)
        assert counted.busiest_experts == one.busiest_experts


def test_measured_requested_capacity_scales_the_later_strata() -> None:
    placement = Placement((4, 4, 8))
    found = loads.stratum_loads(placement, 100, 2, requested_capacity=1.3)
    assert sum(load.tokens for load in found) == pytest.approx(130)
    uniform = loads.stratum_loads(placement, 100, 2)
    assert found[0] == uniform[0]
    assert found[1].rows / found[2].rows == pytest.approx(uniform[1].rows / uniform[2].rows)


def test_rows_on_ranks_by_hand() -> None:
    """Three experts on rank 0 and three on rank 1; stratum 2 sees 1 and 2 of them."""
    first, second = loads.stratum_loads(Placement((3, 3), 2), 60, 2)
    assert (first.rows, first.busiest_rows, first.busiest_experts) == (120, 120, 3)
    assert (first.sent_rows, first.busiest_sent_rows) == (60, 60)
    assert (second.tokens, second.rows) == (30, 60)
    assert (second.busiest_rows, second.busiest_experts) == (pytest.approx(80), 2)
    # Rank 0 holds one of three: it sends 40 and gets 20; rank 1 the other way round.
    assert (second.sent_rows, second.busiest_sent_rows) == (pytest.approx(30), pytest.approx(40))


def test_imbalance() -> None:
    assert loads.stratum_imbalances(Placement((4, 12), 8)) == [1, pytest.approx(2 / 1.5)]
    assert loads.placement_imbalance(Placement((4, 12), 8)) == pytest.approx((1 + 0.25 * 4 / 3) / 1.25)
    assert loads.better_ep_sizes(Placement((4, 12), 8))[0] == 4
    assert loads.placement_imbalance(Placement((2, 2, 2, 2), 2)) == 1


def test_exchanged_bytes() -> None:
    # 100 tokens, 2 rows each, half of them remote, there and back, forward and backward, 8 numbers of 4 bytes
    (load,) = loads.stratum_loads(Placement((4,), 2), 100, 2)
    assert load.exchanged_bytes(8 * 4) == 100 * 2 * 0.5 * 4 * 8 * 4
    assert load.exchanged_bytes(8 * 4, forwards=2) == 100 * 2 * 0.5 * 6 * 8 * 4
    (alone,) = loads.stratum_loads(Placement((4,)), 100, 2)
    assert alone.exchanged_bytes(8 * 4) == 0
