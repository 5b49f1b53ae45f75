"""What a block costs, against simulation and against models that are really built."""

from __future__ import annotations

import random

import pytest
import torch

from smoe_ds.config.model import ModelConfig
from smoe_ds.config.moe import MoeConfig
from smoe_ds.model.transformer import Transformer
from smoe_ds.moe import StratifiedMoE, accounting


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
    assert accounting.expected_strata(strata) == pytest.approx(simulated_strata(strata, 40_000), rel=0.02)


def test_known_values() -> None:
    assert accounting.expected_strata([4, 12]) == 1.25
    assert accounting.expected_strata([2, 2, 2, 2]) == pytest.approx(25 / 12)  # harmonic number H_4
    assert accounting.expected_strata([4, 4], stacked=True) == 2
    assert accounting.expected_strata([]) == 0
    assert accounting.stratum_shares([4, 12]) == [1, 0.25]


def test_a_layer_with_flat_gates_passes_that_many_strata() -> None:
    """Gates of zero and noise in the input of the choice: the measured RC is the expected one."""
    torch.manual_seed(0)
    layer = StratifiedMoE(16, 4, [4, 4, 8], top_k=1, capacity_factor=None)
    for gate in layer.gates:
        torch.nn.init.normal_(gate, std=0.01)
    with torch.no_grad():
        rc = layer(torch.randn(40_000, 16))[1].requested_capacity.float().mean().item()
    assert rc == pytest.approx(accounting.expected_strata([4, 4, 8]), rel=0.1)


@pytest.mark.parametrize(
    "moe", [{"strata": []}, {"strata": [4]}, {"strata": [2, 2]}, {"strata": [4], "shared_expert": "cmr"}], ids=str
)
def test_paper_parameters_are_the_matrices_of_a_real_model(moe: dict) -> None:
    config = MoeConfig(**moe)
    sizes = ModelConfig(d_model=8, d_ffn=12, num_heads=2)
    model = Transformer(sizes, config, 50)
    named = dict(model.named_parameters())
    matrices = sum(p.numel() for name, p in named.items() if p.dim() == 2 and "gate" not in name)
    shared = config.shared_expert != "none"
    assert accounting.paper_parameters(8, 12, 50, sum(config.strata) or 1, shared_expert=shared) == matrices


def test_imbalance() -> None:
    assert accounting.stratum_imbalances([4, 12], 8) == [1, pytest.approx(2 / 1.5)]
    assert accounting.placement_imbalance([4, 12], 8) == pytest.approx((1 + 0.25 * 4 / 3) / 1.25)
    assert accounting.better_ep_sizes([4, 12], 8)[0] == 4
    assert accounting.placement_imbalance([2, 2, 2, 2], 2) == 1


def test_exchanged_bytes() -> None:
    # 100 tokens, 2 rows each, half of them remote, there and back, forward and backward, 8 numbers of 4 bytes
    assert accounting.exchanged_bytes([4], 2, 100, 8, 2, 4) == 100 * 2 * 0.5 * 4 * 8 * 4
    assert accounting.exchanged_bytes([4], 1, 100, 8, 2, 4) == 0
