"""The loss of a micro-batch: what the configuration adds to the token loss, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from smoe_ds.config.model import ModelConfig
from smoe_ds.config.moe import MoeConfig
from smoe_ds.data.batch import Batch
from smoe_ds.model.transformer import Transformer
from smoe_ds.moe.losses import auxiliary_losses, cmr_budget_loss, load_balancing_loss, router_z_loss
from smoe_ds.train.micro_step import LossSettings, forward, seed_micro_batch

CPU, VOCAB = torch.device("cpu"), 29
SIZES = ModelConfig(d_model=16, d_ffn=20, num_heads=2, encoder_layers=2, decoder_layers=2, max_positions=16)
LOADED = {"load_balancing_weight": 0.02}
CMR = {"shared_expert": "cmr", "cmr_weight": 0.3, "cmr_budget": 0.7}
CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "dense": ({"strata": []}, []),
    "no layer has experts": ({"every": 9, **LOADED, "router_z_weight": 0.1}, []),
    "balance": (LOADED, ["load_balancing_loss"]),
    "weight 0": ({"load_balancing_weight": 0.0}, ["load_balancing_loss"]),
    "z": ({**LOADED, "router_z_weight": 0.1}, ["load_balancing_loss", "router_z_loss"]),
    "cmr": (CMR, ["load_balancing_loss", "cmr_budget_loss"]),
    "all": ({**LOADED, "router_z_weight": 0.1, **CMR}, ["load_balancing_loss", "router_z_loss", "cmr_budget_loss"]),
}


def batch() -> Batch:
    src, tgt = torch.randint(4, VOCAB, (2, 3, 7), generator=torch.Generator().manual_seed(1))
    return Batch(src, tgt, tgt.flip(1), 21, 21, directions=("a-b",) * 3, index=0)


@pytest.mark.parametrize("name", CASES)
def test_loss_and_auxiliary_losses(name: str) -> None:
    settings, names = CASES[name]
    moe = MoeConfig(strata=[2, 2], expert_init="xavier").model_copy(update=settings)
    model = Transformer(SIZES, moe, VOCAB, seed=3)

    def doubled(counts: torch.Tensor) -> torch.Tensor:  # as if another rank had seen the same
        return counts * 2

    seed_micro_batch(1, 0)
    step = forward(model, batch(), LossSettings(0.1, auxiliary_losses(moe, SIZES), doubled, 2), CPU, scale=0.25)
    values = {
        "load_balancing_loss": lambda: load_balancing_loss(step.stats, doubled, 2),
        "router_z_loss": lambda: router_z_loss(step.stats, doubled, 2),
        "cmr_budget_loss": lambda: cmr_budget_loss(step.stats, moe.cmr_budget, doubled, 2),
    }
    weights = [moe.load_balancing_weight, moe.router_z_weight, moe.cmr_weight]
    weight_of = dict(zip(values, weights, strict=True))
    expected = step.translation.smoothed * 0.25
    for each in names:
        expected = expected + weight_of[each] * values[each]()
    assert list(step.auxiliary) == names
    assert all(torch.equal(step.auxiliary[each], values[each]()) for each in names)
    assert not any(value.requires_grad for value in step.auxiliary.values())
    assert torch.equal(step.loss, expected)
