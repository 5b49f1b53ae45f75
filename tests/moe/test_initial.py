"""How matrices start: the spread that each name promises, and what it depends on."""

from __future__ import annotations

import math

import pytest
import torch

from smoe_ds.config.model import ModelConfig
from smoe_ds.config.moe import MoeConfig
from smoe_ds.model.transformer import Transformer
from smoe_ds.moe import StratifiedMoE
from smoe_ds.moe.experts import ExpertFFN
from smoe_ds.moe.initial import initialize

D, F = 96, 400
DEVIATION = {
    "xavier": math.sqrt(2 / (D + F)),
    "linear": math.sqrt(1 / (3 * D)),
    "switch": math.sqrt(0.1 / D) * 0.88,  # what is left of a normal distribution cut off at two deviations
}


@pytest.mark.parametrize("how", DEVIATION)
def test_spread(how: str) -> None:
    weight, bias = torch.empty(F, D), torch.ones(F)
    initialize(weight, bias, how, 1, "w")
    assert weight.std().item() == pytest.approx(DEVIATION[how], rel=0.02)
    assert abs(weight.mean().item()) < 3 * DEVIATION[how] / math.sqrt(weight.numel())
    bound = {"xavier": math.sqrt(6 / (D + F)), "linear": D**-0.5, "switch": 2 * math.sqrt(0.1 / D)}[how]
    assert 0.99 * bound < weight.abs().max().item() <= bound
    if how == "linear":
        assert bias.std().item() == pytest.approx(DEVIATION[how], rel=0.1)
    else:
        assert not bias.any()
    again = torch.empty(F, D)
    initialize(again, None, how, 1, "w")
    assert torch.equal(weight, again)


@pytest.mark.parametrize("activation", ["relu", "swiglu"])
def test_zero_starts_as_the_identity(activation: str) -> None:
    layer = StratifiedMoE(
        8, 16, [2, 3], activation=activation, expert_init="zero", shared_expert="add", capacity_factor=None
    )
    x = torch.randn(200, 8)
    y, _ = layer(x)
    assert torch.equal(y, x)
    y.square().sum().backward()
    for expert in layer.experts.values():
        assert expert.w2.grad.any()
        assert expert.w1.std() > 0.1


@pytest.mark.parametrize("experts", ["ffn", "mpo"])
@pytest.mark.parametrize("strata", [[8], [4, 4], [2, 2, 2, 2]])
@pytest.mark.parametrize("stacked", [False, True])
def test_every_expert_learns_from_the_default_start(strata: list[int], stacked: bool, experts: str) -> None:
    """The first step moves what gives the output; after it a gradient reaches every weight of every expert."""
    torch.manual_seed(0)
    layer = StratifiedMoE(8, 16, strata, stacked=stacked, experts={"kind": experts}, capacity_factor=None)
    optimizer = torch.optim.Adam(layer.parameters(), 1e-2)
    x, target = torch.randn(2, 400, 8)
    if experts == "ffn" or not stacked:
        assert torch.equal(layer(x)[0], x), "the block starts as the identity"
    for _ in range(2):
        optimizer.zero_grad()
        (layer(x)[0] - target).square().mean().backward()
        optimizer.step()
    for name, parameter in layer.named_parameters():
        assert parameter.grad.any(), name


def test_every_network_of_a_model_starts_as_it_was_told() -> None:
    config = ModelConfig(d_model=64, d_ffn=128, num_heads=2, encoder_layers=2, decoder_layers=2, ffn_init="switch")
    model = Transformer(config, MoeConfig(strata=[2, 2], expert_init="zero", gate_init="linear"), 40)
    for name, module in model.named_modules():
        if isinstance(module, ExpertFFN):
            assert module.w2.any().item() is (".experts." not in name)
    gates = torch.cat([p.flatten() for name, p in model.named_parameters() if ".gates." in name])
    assert 0.95 / 8 < gates.abs().max() <= 1 / 8
